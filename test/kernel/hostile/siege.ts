/** Starts a hostile program among a robot's processes. The processes are real, the descriptors come from the caller. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Grant } from '../../../drivers/program/handle.ts'
import type { ConfinedBy } from '../../../runtime/body/sandbox/confinement.ts'
import { FD } from '../../../runtime/sdk/wire.ts'
import { type Cage, cage, type Installation, install } from '../../runtime/body/sandbox/cage.ts'
import { inUml } from '../guest.ts'
import { type Attack, attacks } from './attacks.ts'

/** Granted devices, in the order of attacks.ts. */
const GRANTS = [
  { name: 'output', id: 1, kind: 'output', via: 'inherit', encoding: 'line' },
  { name: 'input', id: 2, kind: 'input', via: 'inherit', encoding: 'line' },
  { name: 'i2c', id: 3, kind: 'i2c', via: 'inherit', encoding: 'i2c' },
  { name: 'pipe', id: 4, kind: 'output', via: 'inherit', encoding: 'record' },
] as const satisfies readonly Omit<Grant, 'fd'>[]

export class Siege {
  readonly #installation: Installation = install()
  readonly #folder = mkdtempSync(join(tmpdir(), 'medulla-siege-'))
  readonly #native: string
  readonly #oldCall: string | undefined
  readonly #endpoint: ChildProcess
  readonly #cages: Cage[] = []

  /** Throws when there is no gcc. */
  constructor() {
    const file = join(this.#folder, 'native')
    execFileSync('gcc', ['-static', '-O2', '-s', '-o', file, join(import.meta.dirname, 'native.c')])
    this.#native = readFileSync(file, 'base64')
    // user-mode Linux handles such a call as the 64-bit call of the same number
    if (!inUml) this.#oldCall = execFileSync(file, { input: 'int80\n', encoding: 'utf8' }).trim()
    mkdirSync(join(this.#folder, 'home'))
    for (const name of ['robot.key', 'operators.json']) writeFileSync(join(this.#folder, 'home', name), 'secret')
    this.#endpoint = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'], { stdio: 'ignore' })
  }

  /** A program that does nothing, standing for that of another slot. */
  async bystander(sandbox: ConfinedBy, leafProcs: string | null = null): Promise<Cage> {
    const one = this.#start({ sandbox, leafProcs, program: 'return process.pid' })
    await one.answer
    return one
  }

  /** A program with `fds` as its handles, which writes the binary into its /tmp and sends it these requests. */
  raid(options: {
    sandbox: ConfinedBy
    fds: readonly number[]
    requests: readonly string[]
    network?: boolean
    leafProcs?: string | null
  }): Cage {
    const { requests, fds } = options
    const count = FD.firstGrant + fds.length
    return this.#start({
      ...options,
      grants: GRANTS.slice(0, fds.length),
      pids: 32,
      program: `
        const { writeFileSync } = await import('node:fs')
        const { spawnSync } = await import('node:child_process')
        writeFileSync('/tmp/native', Buffer.from('${this.#native}', 'base64'), { mode: 0o700 })
        const stdio = ['pipe', 'pipe', 'inherit', ...Array(${count - 3}).fill('inherit')]
        const { stdout, signal, error } = spawnSync('/tmp/native', { input: ${JSON.stringify(`${requests.join('\n')}\n`)}, stdio })
        if (error) throw error
        return { answers: stdout.toString().trim().split('\\n'), signal }`,
    })
  }

  /** All attacks with their answers and the expected answers. */
  async storm(about: {
    sandbox: ConfinedBy
    fds: readonly number[]
    network: boolean
    old: Cage
    other: Cage
  }): Promise<{ got: Attack[]; wanted: Attack[] }> {
    const { other, old } = about
    const victims = {
      body: process.pid,
      endpoint: this.#endpoint.pid as number,
      other: other.process.pid as number,
      old: old.process.pid as number,
    }
    const home = join(this.#folder, 'home')
    const secrets = [home, join(home, 'robot.key'), join(home, 'operators.json'), other.folder, old.folder]
    const wanted = attacks({ ...about, victims, secrets, oldCall: this.#oldCall })
    const raid = this.raid({ ...about, requests: wanted.map(([request]) => request) })
    const { answers, signal } = (await raid.answer) as { answers: string[]; signal: string | null }
    await raid.end()
    if (signal !== null) throw new Error(`the binary was ended by ${signal} after ${answers.length} answers`)
    return { got: wanted.map(([request], index) => [request, answers[index] ?? 'none']), wanted }
  }

  #start(options: Omit<Parameters<typeof cage>[0], 'loader'>): Cage {
    const one = cage({ loader: this.#installation.loader, ...options })
    this.#cages.push(one)
    return one
  }

  async end(): Promise<void> {
    await Promise.all(this.#cages.map((one) => one.end()))
    this.#endpoint.kill('SIGKILL')
    this.#installation.remove()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
