/** Starts a confined child as the body does, with descriptors made by the test and a program given as text. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import type { Duplex, Readable } from 'node:stream'
import { buildSync } from 'esbuild'
import { LineSplitter } from '../../../../deploy/shared/linesplitter.ts'
import type { Grant } from '../../../../drivers/program/handle.ts'
import { type Confined, type ConfinedBy, confine } from '../../../../runtime/body/sandbox/confinement.ts'
import { openDataFolder } from '../../../../runtime/body/sandbox/datafolder.ts'
import { Uids } from '../../../../runtime/body/sandbox/uids.ts'
import { FD } from '../../../../runtime/sdk/wire.ts'

const ROOT = resolve(import.meta.dirname, '../../../..')

export interface Installation {
  /** folder with package.json and node_modules */
  readonly folder: string
  readonly loader: string
  remove(): void
}

/** An installation with the real loader, below a folder that other users cannot enter. */
export function install(): Installation {
  const above = mkdtempSync(join(tmpdir(), 'medulla cage-'))
  const folder = join(above, 'checkout')
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  const loader = bundle(join(ROOT, 'runtime/sdk/loader.ts'), folder)
  return { folder, loader, remove: () => rmSync(above, { recursive: true, force: true }) }
}

/** Compiles a file into an installation, and returns its path. */
export function bundle(file: string, folder: string): string {
  const outfile = join(folder, 'dist', relative(ROOT, file).replace(/\.ts$/, '.js'))
  const external = ['koffi', 'esbuild']
  buildSync({
    entryPoints: [file],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    external,
    logLevel: 'error',
  })
  return outfile
}

export interface CageOptions {
  loader: string
  /** Body of an async function, whose result `answer` returns. `host` is the loader's host object. */
  program: string
  sandbox?: ConfinedBy
  grants?: readonly Omit<Grant, 'fd'>[]
  /** descriptors of the inherited grants, in order */
  fds?: readonly number[]
  network?: boolean
  leafProcs?: string | null
  pids?: number
}

export interface Cage {
  readonly process: ChildProcess
  readonly uid: number
  /** of this instance, as the runtime sees it */
  readonly folder: string
  readonly confined: Confined
  /** Resolves to the program's result; rejects with its error, or with the reason why it did not start. */
  readonly answer: Promise<unknown>
  /** The program's stderr so far. */
  stderr(): string
  /** Ends the child, and removes its folder. */
  end(): Promise<void>
}

const uids = new Uids()

export function cage(options: CageOptions): Cage {
  const { grants = [], fds = [], network = false } = options
  const folder = mkdtempSync(join(tmpdir(), 'medulla run-'))
  const programDir = join(folder, 'program')
  mkdirSync(programDir, { mode: 0o700 })
  writeFileSync(
    join(programDir, 'program.mjs'),
    `const host = globalThis[Symbol.for('medulla.host')]
    // the effects gate is no security boundary: a hostile program can open it
    host.gate.open()
    // only the control socket keeps the event loop alive
    const told = (value) => host.send({ t: 'log', level: 'info', text: JSON.stringify(value ?? null) })
    const main = async () => {${options.program}}
    main().then((value) => told({ value }), (error) => told({ error: error.code ?? String(error.stack ?? error) }))`,
    { mode: 0o400 },
  )
  const uid = uids.take()
  let next: number = FD.firstGrant
  const given = grants.map((grant) => (grant.via === 'inherit' ? { ...grant, fd: next++ } : grant))
  const confined = confine({
    sandbox: options.sandbox ?? 'namespaces',
    uid,
    leafProcs: options.leafProcs ?? null,
    folder,
    programDir,
    loader: options.loader,
    grants: given,
    network,
    pids: options.pids ?? 64,
    dataMb: null,
    tmpMb: 16,
    dataFolder: openDataFolder(folder, 'main', true),
  })
  const own = Array.from({ length: FD.firstGrant - FD.outbox }, () => openSync('/dev/null', 'r'))
  const extra = confined.extra.map((path) => openSync(path, 'r'))
  const [command = '', ...args] = confined.command
  const child = spawn(command, args, {
    cwd: folder,
    env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8', TZ: 'UTC', UV_USE_IO_URING: '0' },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', ...own, ...fds, ...extra],
    detached: true,
  })
  for (const fd of [...own, ...extra]) closeSync(fd)
  const [, , stderr, control] = child.stdio as unknown as [null, Readable, Readable, Duplex]
  let text = ''
  stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  const exited = new Promise<void>((done) => child.once('exit', () => done()))
  const answer = new Promise<unknown>((done, fail) => {
    const splitter = new LineSplitter()
    control.setEncoding('utf8').on('data', (chunk: string) => {
      for (const line of splitter.push(chunk)) {
        const message = JSON.parse(line)
        if (message.t === 'fatal') fail(new Error(message.message))
        else if (message.t === 'log') {
          const { value, error } = JSON.parse(message.text)
          if (error === undefined) done(value)
          else fail(new Error(error))
        }
      }
    })
    control.on('error', () => {})
    // `close` comes after the last line of the control socket
    child.once('close', () => fail(new Error(`it ended: ${text}`)))
  })
  answer.catch(() => {})
  const messages = [
    { t: 'sandbox', grants: given, confine: confined.confine },
    { t: 'init', file: confined.file },
  ]
  control.write(messages.map((message) => `${JSON.stringify(message)}\n`).join(''))
  return {
    process: child,
    uid,
    folder,
    confined,
    answer,
    stderr: () => text,
    async end() {
      try {
        process.kill(-(child.pid as number), 'SIGKILL')
      } catch {
        // the process has ended
      }
      await exited
      uids.release(uid)
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
