/** Finds and wraps CommonJS modules that only work in sloppy mode: assignments to undeclared names, octal literals, `with`. */
import type { CallExpression, Node, Program } from 'estree'
import { placeStatement } from './logical.ts'

/**
 * Wraps a module so that the robot compiles it by itself, without the strict mode of the bundle; its imports are bundled as
 * usual. Null for a module that works in strict mode, or is not CommonJS.
 */
export async function sloppyModule(text: string, logical: string): Promise<string | null> {
  const program = await parsed(text, 'script')
  if (program === null || isStrict(program) || !(await needsSloppy(text, program))) return null
  const cases = requires(program).map(([name, optional]) => {
    const call = `return require(${JSON.stringify(name)})`
    // esbuild accepts a missing package only where a try block catches its absence
    return `case ${JSON.stringify(name)}:${optional ? `try{${call}}catch(e){throw e}` : call};`
  })
  const code = text.replace(/^#!.*/, '')
  return [
    placeStatement(logical),
    `require("node:vm").compileFunction(${JSON.stringify(code)},`,
    `["exports","require","module","__filename","__dirname","__medullaUrl"],{filename:${JSON.stringify(logical)}})`,
    `.call(module.exports,exports,(n)=>{switch(n){${cases.join('')}}return require(n)},module,__medullaFile,__medullaDir,__medullaUrl)`,
  ].join('')
}

/**
 * Matches one space or comment. One pattern for all of them would try every way to divide thousands of comments, for
 * minutes.
 */
const SPACE_OR_COMMENT = /\s+|\/\/.*|\/\*[\s\S]*?\*\//y

/** A quick test before the module is parsed: CommonJS, and not strict by its first line. */
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
  // modules are strict: a text that does not parse as a module needs sloppy mode
  if ((await parsed(text, 'module')) === null) return true
  if (looksAtSloppyThis(program)) return true
  const { analyze } = await import('eslint-scope')
  const { globalScope } = analyze(program as never, { ecmaVersion: 2024, sourceType: 'script', nodejsScope: true })
  const undeclared = globalScope as { implicit?: { set: Map<string, unknown> } } | null
  return (undeclared?.implicit?.set.size ?? 0) > 0
}

/**
 * Whether it uses `arguments.callee`, or `this` in a function expression that is called at once: the global object in
 * sloppy mode.
 */
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

/** The literal arguments of require(), and whether every such call is in a try block. */
function requires(program: Program): [name: string, optional: boolean][] {
  const found = new Map<string, boolean>()
  const search = (node: Node, caught: boolean): void => {
    walk(node, (inner) => {
      if (inner.type === 'TryStatement' && inner.handler && !caught) {
        search(inner.block, true)
        search(inner.handler, false)
        if (inner.finalizer) search(inner.finalizer, false)
        return false
      }
      const name = inner.type === 'CallExpression' ? required(inner) : null
      if (name !== null) found.set(name, caught && (found.get(name) ?? true))
      return true
    })
  }
  search(program, false)
  return [...found]
}

function required({ callee, arguments: [first] }: CallExpression): string | null {
  if (callee.type !== 'Identifier' || callee.name !== 'require') return null
  return first?.type === 'Literal' && typeof first.value === 'string' ? first.value : null
}

/** Visits every node, parents first; skips the children of a node for which `visit` returns false. */
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
