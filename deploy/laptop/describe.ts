/**
 * Finds out what a program needs: runs it once without handles, in a process with a clean environment, behind a gate. Behind
 * the gate nothing that the program does has an effect outside of the process (HANDOVER 13.1).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, extname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { TreeFile } from '../shared/bundle/h1.ts'
import { isObject, type JsonObject } from '../shared/bundle/strict.ts'
import { Refusal } from '../shared/errors.ts'
import { explain, type Place, placeText, type Thrown } from '../shared/stack.ts'
import { timeScale } from '../shared/timescale.ts'
import { writeTree } from './bundler/tree.ts'

const SMALLEST = `import { robot } from 'medulla'
robot({ led: 'output' }, ({ led, every }) => {
  every(500, () => led.write(!led.value))
})`

const LIMIT_MS = 5000 * timeScale()
const MAX_ANSWER = 256 * 1024
const MAX_OUTPUT = 64 * 1024
const AFTER_EXIT_MS = 100
const NEWLINE = 10
const ENTER = '{"enter":'

/**
 * Program of the child: reads the URLs of gate and program from fd 3, answers on fd 3, and ends. stdout and stderr are the
 * program's.
 */
const CHILD = `
const { readSync, writeSync } = require('node:fs')
const { inspect } = require('node:util')
const said = []
const write = (value) => {
  const bytes = Buffer.from(JSON.stringify(value) + '\\n')
  for (let at = 0; at < bytes.length; ) {
    try { at += writeSync(3, bytes, at) } catch (error) { if (error.code !== 'EAGAIN') throw error }
  }
}
const answer = (value) => {
  write(value)
  process.exit(0)
}
const plain = (error) => {
  if (typeof error !== 'object' || error === null || !('stack' in error)) return { name: '', message: inspect(error, { depth: 1 }), stack: '' }
  const { name, message, stack, errors, mistake } = error
  const inner = Array.isArray(errors) ? errors.slice(0, 3).map((each) => each?.message ?? each).join('; ') : ''
  return { name: String(name ?? ''), message: String(message || inner).slice(0, 2000), stack: String(stack).slice(0, 8000), mistake }
}
const failed = (error) => {
  const thrown = []
  for (let next = error; thrown.length < 4 && (next === error || next instanceof Error); next = next.cause) thrown.push(plain(next))
  answer({ thrown })
}
Error.stackTraceLimit = 30
const url = Buffer.alloc(4096)
let length = 0
do {
  const got = readSync(3, url, length, url.length - length, null)
  // the builder has gone
  if (got === 0) process.exit(0)
  length += got
} while (url[length - 1] !== 10)
const load = async (inert, program) => {
  const gate = (await import(inert)).closedGate(4)
  // a rejected promise, or an error in a callback, while the program loads
  for (const event of ['uncaughtException', 'unhandledRejection']) {
    process.on(event, (error) => { if (gate.round === undefined) failed(error) })
  }
  globalThis[Symbol.for('medulla.host')] = { gate, describe: (d) => { said.push(d) }, enter: (place) => write({ enter: place }) }
  let late = false
  // a call of robot() after an await has no effect on a robot: wait a moment only to report it
  const looked = async () => {
    if (said.length > 0) return
    await new Promise((resolve) => setTimeout(resolve, 300))
    late = said.length > 0
  }
  await gate.loading(import(program).then(looked))
  answer(late ? { late } : { said })
}
load(...url.toString('utf8', 0, length - 1).split(' ')).catch(failed)
`

/** The user's variables must not change the description. Windows needs the three named ones to start a process. */
function scrubbedEnv(): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { TZ: 'UTC', NODE_NO_WARNINGS: '1' }
  for (const name of ['SystemRoot', 'TEMP', 'TMP']) if (process.env[name] !== undefined) env[name] = process.env[name]
  return env
}

/** Where a program comes from. */
interface Origin {
  /** the file that programs import as `medulla` */
  sdk: string
  /** the program's folder */
  root: string
  /** the source map; null before it is made */
  map(): Uint8Array | null
}

/** Started before the program is built, because a Node process needs as long to start as esbuild to bundle. */
export class Describer {
  readonly #child: ChildProcess
  #timer: NodeJS.Timeout | undefined
  readonly #answer: Promise<string>
  #size = 0
  #output = ''
  #late = false

  constructor() {
    // CommonJS: workers of the program would inherit --input-type, and refuse it
    const args = ['--eval', CHILD]
    this.#child = spawn(process.execPath, args, { env: scrubbedEnv(), stdio: ['ignore', 'pipe', 'pipe', 'pipe'] })
    const answer: Buffer[] = []
    this.#answer = new Promise((resolve, reject) => {
      const done = () => resolve(Buffer.concat(answer).toString())
      this.#child.stdio[3]?.on('data', (part: Buffer) => {
        this.#size += part.length
        if (this.#size > MAX_ANSWER) this.#child.kill('SIGKILL')
        else answer.push(part)
        // a line {"enter": …} comes before the answer when the program enters run()
        if (part.at(-1) === NEWLINE && !lastLine(answer).startsWith(ENTER)) done()
      })
      this.#child.on('error', reject)
      // After a turn of the event loop without data. A timer alone is not enough: in a busy process it fires before the data is read.
      const doneWhenRead = () => {
        const before = this.#size
        setImmediate(() => (this.#size === before ? done() : doneWhenRead()))
      }
      // a process that the program started may keep our pipes open: then 'close' never comes
      this.#child.on('exit', () => setTimeout(doneWhenRead, AFTER_EXIT_MS))
      this.#child.on('close', done)
    })
    this.#answer.catch(() => {}) // describe() awaits it, if it is called
    this.#child.stdio[3]?.on('error', () => {})
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', (part: Buffer) => {
        if (this.#output.length < MAX_OUTPUT) this.#output += part.toString()
      })
    }
  }

  /** The child still waits for a program. */
  get ready(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  /**
   * Call it once. Returns the description that the program gave robot(), unchecked. Throws `build-failed`, with the line in
   * a file of `root`.
   */
  async describe({ code, files }: { code: Uint8Array; files: readonly TreeFile[] }, of: Origin): Promise<JsonObject> {
    const gate = await gateOf(of.sdk)
    this.#timer = setTimeout(() => {
      this.#late = true
      this.#child.kill('SIGKILL')
    }, LIMIT_MS)
    const folder = mkdtempSync(join(tmpdir(), 'medulla-build-'))
    try {
      const file = join(folder, 'program.mjs')
      writeTree(folder, [{ name: 'program.mjs', bytes: code }, ...files])
      const inert = join(folder, '.gate.mjs')
      writeFileSync(inert, gate, { mode: 0o600 })
      const pipe = this.#child.stdio[3]
      if (pipe && 'write' in pipe) pipe.write(`${pathToFileURL(inert)} ${pathToFileURL(file)}\n`)
      return this.#read((await this.#answer).trim(), (error) => thrown(error, of.root, of.map()))
    } finally {
      this.stop()
      rmSync(folder, { recursive: true, force: true })
    }
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#child.kill('SIGKILL')
    for (const stream of this.#child.stdio) stream?.destroy()
  }

  #read(text: string, thrown: (error: readonly unknown[]) => never): JsonObject {
    const inRun = text.startsWith(ENTER)
    const answer = text.split('\n').at(-1) ?? ''
    if (this.#late && inRun) {
      fail(
        `run did not return within ${LIMIT_MS / 1000} s`,
        'run prepares and returns: put work that goes on for ever into every(ms, …)',
      )
    }
    if (this.#late)
      fail(`the program did not finish loading within ${LIMIT_MS / 1000} s`, 'keep long work out of its top level')
    if (this.#size > MAX_ANSWER) fail(`the program describes itself in more than ${MAX_ANSWER} bytes`)
    const last = this.#output.trim().split('\n').at(-1)
    if (answer === '' || answer.startsWith(ENTER)) {
      const [where, place] = inRun ? ['in run', 'run'] : ['while loading', 'its top level']
      const { signalCode, exitCode } = this.#child
      const by = signalCode === null ? ` with exit code ${exitCode}` : ` by ${signalCode}`
      const hint = signalCode === null ? `keep process.exit out of ${place}` : 'is the memory of this computer full?'
      fail(`the program ended ${where}${by}${last ? `: ${last}` : ''}`, hint)
    }
    const parsed: unknown = JSON.parse(answer)
    if (!isObject(parsed)) return fail('the program wrote to descriptor 3, which the build uses')
    if (Array.isArray(parsed.thrown)) return thrown(parsed.thrown)
    if (parsed.late === true) {
      fail('the program calls robot() after an await', 'call robot() at the top level; await inside an async run')
    }
    const calls = Array.isArray(parsed.said) ? parsed.said : []
    if (calls.length === 0) fail('the program never calls robot()', `the smallest program is:\n${SMALLEST}`)
    if (calls.length > 1) fail(`the program calls robot() ${calls.length} times`, 'call it once, at the top level')
    if (!isObject(calls[0])) return fail('the description of the program is not an object')
    return calls[0]
  }
}

const gates = new Map<string, Promise<Uint8Array>>()

/** The gate of the SDK, bundled into one JavaScript file: the child's Node cannot read TypeScript. */
function gateOf(sdk: string): Promise<Uint8Array> {
  const known = gates.get(sdk)
  if (known !== undefined) return known
  const file = join(dirname(sdk), `inert${extname(sdk)}`)
  const made = import('esbuild')
    .then(({ build }) =>
      build({ entryPoints: [file], bundle: true, write: false, format: 'esm', platform: 'node', target: 'node20' }),
    )
    .then(({ outputFiles }) => outputFiles[0]?.contents ?? new Uint8Array())
  gates.set(sdk, made)
  return made
}

const lastLine = (parts: readonly Buffer[]): string =>
  Buffer.concat(parts).toString().trimEnd().split('\n').at(-1) ?? ''

/**
 * Refuses with the line of the author's file. For a mistake in the description, finds the line and column of the wrong
 * word.
 */
function thrown(list: readonly unknown[], root: string, map: Uint8Array | null): never {
  const errors = list.filter((each) => isObject(each)) as unknown as readonly (Thrown & { mistake?: string })[]
  const mapText = map === null ? null : Buffer.from(map).toString()
  const { text, place } = explain(errors, (file) => (file.endsWith('/program.mjs') ? mapText : undefined))
  const { mistake, message = '' } = errors[0] ?? {}
  if (mistake === undefined || place === null) return fail(`the program throws while loading: ${text}`)
  return fail(`${placeText(wordFrom(place, mistake, root))}: ${message}`)
}

/** The next place of `word` from `place` on; `place` itself when there is none. */
function wordFrom(place: Place, word: string, root: string): Place {
  try {
    const lines = readFileSync(join(root, place.file), 'utf8').split('\n')
    const pattern = new RegExp(`(?<![\\w$])${word.replace(/[^\w]/g, '\\$&')}(?![\\w$])`)
    for (let line = place.line; line <= lines.length; line++) {
      const skipped = line === place.line ? place.column - 1 : 0
      const at = (lines[line - 1] ?? '').slice(skipped).search(pattern)
      if (at >= 0) return { ...place, line, column: skipped + at + 1 }
    }
  } catch {
    // a file that cannot be read: `place` names it all the same
  }
  return place
}

function fail(message: string, hint?: string): never {
  throw new Refusal('build-failed', message, hint)
}
