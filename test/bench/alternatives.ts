/** What people do without a runtime: a supervisor of a few lines, in a process of its own (children/supervisor.ts). */
import type { ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { start, temporary } from './rig.ts'
import { Series } from './stats.ts'

export type Way = 'kill-respawn' | 'json-ipc'

export type ToSupervisor = 'begin' | 'swap' | 'rest'
export type FromSupervisor = { done: true; gapMs?: number } | { failed: string }

const SUPERVISOR = fileURLToPath(new URL('children/supervisor.js', import.meta.url))
const NOTES = {
  'kill-respawn': 'SIGKILL, exit seen, spawn; the state is lost',
  'json-ipc': 'to a child that is ready; state as base64 in JSON, through the parent',
}

export class Alternative {
  readonly series: readonly [Series]
  readonly #supervisor: ChildProcess

  private constructor(series: Series, supervisor: ChildProcess) {
    this.series = [series]
    this.#supervisor = supervisor
  }

  static async make(way: Way, variant: string, size: number): Promise<Alternative> {
    const args = [SUPERVISOR, way, String(size), temporary(true)]
    const supervisor = start(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    return new Alternative(new Series('gap', variant, 'ms', { note: NOTES[way] }), supervisor)
  }

  async begin(): Promise<void> {
    await this.#ask('begin')
  }

  async swap(): Promise<void> {
    const [series] = this.series
    await this.#ask('swap').then(
      (gapMs) => series.add(gapMs ?? Number.NaN),
      (error: Error) => series.fail(error.message),
    )
  }

  async rest(): Promise<void> {
    await this.#ask('rest')
  }

  #ask(what: ToSupervisor): Promise<number | undefined> {
    const child = this.#supervisor
    return new Promise((resolve, reject) => {
      const lost = (status: unknown) => reject(new Error(`the supervisor ended with ${status}`))
      child.once('exit', lost)
      child.once('message', (answer: FromSupervisor) => {
        child.off('exit', lost)
        if ('failed' in answer) reject(new Error(answer.failed))
        else resolve(answer.gapMs)
      })
      child.send(what)
    })
  }
}
