/**
 * Runs a scenario. Invariant: it passes only if every step came true, the log had the expected text and not the forbidden
 * one, all within the scenario's time (test/runtime/testkit/scenario.test.ts).
 */
import { isDeepStrictEqual } from 'node:util'
import type { Level } from '../../drivers/program/handle.ts'
import type { LaptopChannel } from './channels.ts'
import type { Named } from './load.ts'
import type { Scenario, ScenarioStep } from './scenario.ts'
import type { Simulation } from './simulation.ts'

export type ScenarioVerdict =
  | { readonly passed: true }
  | { readonly passed: false; readonly late: boolean; readonly why: string }

export interface RunnerOptions {
  /** A text that the log must have, and one that it must not have. */
  readonly expect?: string | undefined
  readonly fail?: string | undefined
  readonly timeoutMs: number
  /** The built program for a path in a step. */
  source(path: string): Named
  onStep?(index: number, step: ScenarioStep): void
}

/** Something in the scenario did not come true. `late`: because its time was over. */
class StepFailed extends Error {
  readonly late: boolean
  constructor(message: string, late = false) {
    super(message)
    this.late = late
  }
}

export async function runScenario(
  sim: Simulation,
  { steps }: Scenario,
  options: RunnerOptions,
): Promise<ScenarioVerdict> {
  const run = new Run(sim, options)
  try {
    for (const [index, step] of steps.entries()) {
      options.onStep?.(index, step)
      try {
        await run.step(step)
      } catch (error) {
        if (error instanceof StepFailed) throw new StepFailed(`steps[${index}]: ${error.message}`, error.late)
        throw new StepFailed(`steps[${index}]: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
    await run.end(steps.length > 0)
    return { passed: true }
  } catch (error) {
    const late = error instanceof StepFailed && error.late
    return { passed: false, late, why: error instanceof Error ? error.message : String(error) }
  }
}

class Run {
  readonly #sim: Simulation
  readonly #options: RunnerOptions
  /** Number of log lines that were searched. */
  #searched = 0
  #seen = false
  #forbidden: string | null = null
  /** Message channels by name, and how many of their messages earlier steps have expected. */
  readonly #channels = new Map<string, { channel: LaptopChannel; seen: number }>()

  constructor(sim: Simulation, options: RunnerOptions) {
    this.#sim = sim
    this.#options = options
  }

  async step(step: ScenarioStep): Promise<void> {
    const sim = this.#sim
    if (step.at !== undefined) {
      if (step.at < sim.ms) throw new StepFailed(`at ${step.at} ms: the simulation is already at ${sim.ms} ms`)
      await this.#pass(step.at - sim.ms)
    }
    if (step.delay !== undefined) await this.#pass(step.delay)
    for (const [name, level] of Object.entries(step.pull ?? {})) sim.pull(name, level as Level)
    if (step.release !== undefined) sim.release(step.release)
    for (const [name, what] of Object.entries(step.poke ?? {})) {
      for (const [key, value] of Object.entries(what)) sim.poke(name, key, value)
    }
    for (const [name, value] of Object.entries(step.param ?? {})) await sim.param(name, value)
    for (const [name, message] of Object.entries(step.send ?? {})) this.#talk(name).channel.send(message)
    if (step.expect !== undefined) await this.#expect(step.expect, step)
    if (step.messages !== undefined) await this.#messages(step.messages, step)
    if (step.state !== undefined) this.#state(step.state)
    for (const [name, states] of Object.entries(step.states ?? {})) {
      sim.assertStatesAndTimes(name, states, step.tolerance === undefined ? {} : { value: step.tolerance })
    }
    if (step.swap !== undefined) await sim.swap(this.#options.source(step.swap))
    if (step.rollback !== undefined) await sim.rollback()
    if (step.crash !== undefined) await sim.crash()
    this.#check()
    if (step['wait-log'] !== undefined) await this.#waitLog(step['wait-log'], step.within)
    this.#search()
    this.#check()
  }

  /** After the last step: waits for the expected text, or without steps until the time is over. */
  async end(steps: boolean): Promise<void> {
    const { expect, timeoutMs } = this.#options
    if (expect === undefined) {
      // without steps and without an expected text only the forbidden text can decide
      if (!steps) await this.#pass(timeoutMs - this.#sim.ms)
      return
    }
    await this.#until(() => this.#seen, undefined, `nothing logged ${JSON.stringify(expect)}`)
  }

  async #waitLog(text: string, within: number | undefined): Promise<void> {
    const logged = this.#sim.nextLine(text)
    await this.#until(logged, within, `nothing logged ${JSON.stringify(text)}`)
  }

  async #expect(
    wanted: Readonly<Record<string, number>>,
    { within = 0, tolerance = 1e-9 }: ScenarioStep,
  ): Promise<void> {
    const wrong = (): string | null => {
      for (const [name, value] of Object.entries(wanted)) {
        const is = this.#sim.value(name)
        if (Math.abs(is - value) > tolerance) return `expected ${name} ${value}, got ${is}`
      }
      return null
    }
    await this.#comesTrue(wrong, within)
  }

  async #messages(wanted: Readonly<Record<string, readonly unknown[]>>, { within = 0 }: ScenarioStep): Promise<void> {
    const talks = Object.entries(wanted).map(([name, all]) => ({ name, all, talk: this.#talk(name) }))
    const wrong = (): string | null => {
      for (const { name, all, talk } of talks) {
        const got = talk.channel.messages.slice(talk.seen)
        if (!isDeepStrictEqual(got, structuredClone(all)))
          return `expected messages on ${name} ${JSON.stringify(all)}, got ${JSON.stringify(got)}`
      }
      return null
    }
    await this.#comesTrue(wrong, within)
    for (const { all, talk } of talks) talk.seen += all.length
  }

  #talk(name: string): { channel: LaptopChannel; seen: number } {
    const known = this.#channels.get(name) ?? { channel: this.#sim.channel(name), seen: 0 }
    this.#channels.set(name, known)
    return known
  }

  async #comesTrue(wrong: () => string | null, within: number): Promise<void> {
    if (wrong() === null) return
    if (within > 0) await this.#until(() => wrong() === null, within, '')
    const still = wrong()
    if (still !== null) throw new StepFailed(still)
  }

  #state(wanted: Readonly<Record<string, unknown>>): void {
    const state = (this.#sim.state ?? {}) as Record<string, unknown>
    for (const [key, value] of Object.entries(wanted)) {
      // structuredClone, as objects of the scenario's parser have no prototype
      if (isDeepStrictEqual(state[key], structuredClone(value))) continue
      throw new StepFailed(`expected state.${key} ${JSON.stringify(value)}, got ${JSON.stringify(state[key])}`)
    }
  }

  /** Lets simulated time pass until `done`, for at most `within` and at most the scenario's remaining time. */
  async #until(done: () => boolean, within: number | undefined, why: string): Promise<void> {
    const { timeoutMs } = this.#options
    const left = Math.max(0, timeoutMs - this.#sim.ms)
    const wait = Math.min(within ?? left, left)
    this.#search()
    if (done()) return
    await this.#sim.run(wait, () => this.#search() || done())
    this.#check()
    if (done() || (wait === within && why === '')) return
    const over = `within ${wait} ms`
    throw new StepFailed(`${why || 'this did not come true'} ${over}`, wait < (within ?? Number.POSITIVE_INFINITY))
  }

  async #pass(ms: number): Promise<void> {
    const left = this.#options.timeoutMs - this.#sim.ms
    await this.#sim.run(Math.min(ms, left), () => this.#search())
    this.#check()
    if (ms > left) throw new StepFailed(`the ${this.#options.timeoutMs} ms are over`, true)
  }

  /** Searches new log lines for both texts. True when the forbidden text was found. */
  #search(): boolean {
    const { log } = this.#sim
    const { expect, fail } = this.#options
    for (; this.#searched < log.length; this.#searched++) {
      const { text = '', ms } = log[this.#searched] ?? {}
      if (expect !== undefined && text.includes(expect)) this.#seen = true
      if (fail !== undefined && text.includes(fail)) this.#forbidden ??= `at ${ms} ms: ${text}`
    }
    return this.#forbidden !== null
  }

  #check(): void {
    if (this.#forbidden !== null) throw new StepFailed(this.#forbidden)
  }
}
