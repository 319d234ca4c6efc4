/** Old CommonJS that means what it says in sloppy mode only, as Node runs it: assignments to undeclared names, octal literals, `with`. */
import type { CallExpression, Node, Program } from 'estree'
import { placeOf } from './logical.ts'

/**
 * The module compiled on the robot by itself, outside the strict mode of the bundle; its imports are bundled as ever. Null
 * for a module that needs none of this, or is none of CommonJS.
 */
export async function sloppyModule(text: string, logical: string): Promise<string | null> {
  const program = await parsed(text, 'script')
  if (program === null || isStrict(program) || !(await needsSloppy(text, program))) return null
  const cases = requires(program).map(([name, optional]) => {
    const call = `return require(${JSON.stringify(name)})`
    // esbuild lets a package be absent where its absence is caught
    return `case ${JSON.stringify(name)}:${optional ? `try{${call}}catch(e){throw e}` : call};`
  })
  const code = text.replace(/^#!.*/, '')
  return [
    placeOf(logical),
    `require("node:vm").compileFunction(${JSON.stringify(code)},`,
    `["exports","require","module","__filename","__dirname","__medullaUrl"],{filename:${JSON.stringify(logical)}})`,
    `.call(module.exports,exports,(n)=>{switch(n){${cases.join('')}}return require(n)},module,__medullaFile,__medullaDir,__medullaUrl)`,
  ].join('')
}

/** One step at a time: a pattern for all of them together tries every way to divide thousands of comments, for minutes. */
const SPACE_OR_COMMENT = /\s+|\/\/.*|\/\*[\s\S]*?\*\//y

/** It is worth a closer look: CommonJS, and not strict by its first line. */
export function mayBeSloppy(text: string): boolean {
  SPACE_OR_COMMENT.lastIndex = /^#!.*/.exec(text)?.[0].length ?? 0
  let at = SPACE_OR_COMMENT.lastIndex
  while (SPACE_OR_COMMENT.test(text)) at = SPACE_OR_COMMENT.lastIndex
  return !/['"]use strict['"]/y.test(text.slice(at, at + 12))
}

async function parsed(text: string, sourceType: 'script' | 'module'): Promise<Program | null> {
  const { parse } = await import('acorn')
  try {
    const options = {
      ecmaVersion: 'latest',
      sourceType,
      allowReturnOutsideFunction: true,
      allowHashBang: true,
    } as const
    return parse(text, { ...options, ranges: true, locations: false }) as unknown as Program
  } catch {
    return null
  }
}

function isStrict({ body }: Program): boolean {
  return body.some((statement) => 'directive' in statement && statement.directive === 'use strict')
}

async function needsSloppy(text: string, program: Program): Promise<boolean> {
  // what is no syntax of strict mode is none of a module
  if ((await parsed(text, 'module')) === null) return true
  if (looksAtSloppyThis(program)) return true
  const { analyze } = await import('eslint-scope')
  const { globalScope } = analyze(program as never, { ecmaVersion: 2024, sourceType: 'script', nodejsScope: true })
  const undeclared = globalScope as { implicit?: { set: Map<string, unknown> } } | null
  return (undeclared?.implicit?.set.size ?? 0) > 0
}

/** `arguments.callee`, and `this` of a function that is called where it stands: the global object. */
function looksAtSloppyThis(program: Program): boolean {
  let found = false
  walk(program, (node) => {
    if (node.type === 'MemberExpression' && !node.computed) {
      const { object, property } = node
      found ||= object.type === 'Identifier' && object.name === 'arguments' && named(property) === 'callee'
    }
    if (node.type !== 'CallExpression' || node.callee.type !== 'FunctionExpression') return true
    const { body } = node.callee
    if (body.body.some((statement) => 'directive' in statement && statement.directive === 'use strict')) return true
    walk(body, (inner) => {
      if (inner.type === 'ThisExpression') found = true
      return (
        inner.type !== 'FunctionExpression' && inner.type !== 'FunctionDeclaration' && !inner.type.startsWith('Class')
      )
    })
    return true
  })
  return found
}

const named = (node: Node): string | null => (node.type === 'Identifier' ? node.name : null)

/** What it requires by a literal, and whether its absence would be caught everywhere. */
function requires(program: Program): [name: string, optional: boolean][] {
  const found = new Map<string, boolean>()
  const look = (node: Node, caught: boolean): void => {
    walk(node, (inner) => {
      if (inner.type === 'TryStatement' && inner.handler && !caught) {
        look(inner.block, true)
        look(inner.handler, false)
        if (inner.finalizer) look(inner.finalizer, false)
        return false
      }
      const name = inner.type === 'CallExpression' ? required(inner) : null
      if (name !== null) found.set(name, caught && (found.get(name) ?? true))
      return true
    })
  }
  look(program, false)
  return [...found]
}

function required({ callee, arguments: [first] }: CallExpression): string | null {
  if (callee.type !== 'Identifier' || callee.name !== 'require') return null
  return first?.type === 'Literal' && typeof first.value === 'string' ? first.value : null
}

/** Every node, from the outside in; not below one for which `visit` answers false. */
function walk(node: Node, visit: (node: Node) => boolean): void {
  if (!visit(node)) return
  for (const value of Object.values(node) as unknown[]) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (typeof child === 'object' && child !== null && typeof (child as Node).type === 'string') {
        walk(child as Node, visit)
      }
    }
  }
}
