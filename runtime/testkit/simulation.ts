/**
 * `simulate`: runs a program on a simulated board in simulated time. Invariant: time passes only in calls of the simulation,
 * and the same calls give the same trace (test/runtime/testkit/swap.test.ts).
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { LogLine, Receipt } from '../../deploy/shared/api.ts'
import { CHANNEL_NAME } from '../../deploy/shared/messages/frames.ts'
import { parseBoard } from '../../drivers/board/board.ts'
import type { Board } from '../../drivers/board/types.ts'
import { parseJson } from '../../drivers/json.ts'
import type { ChipState as ChipSnapshot } from '../../drivers/owner/sim/chips/chip.ts'
import type { Level } from '../../drivers/program/handle.ts'
import type { Upgrade } from '../body/slot/upgrade.ts'
import type { ParamValue } from '../sdk/params.ts'
import type { LogLevel } from '../sdk/wire.ts'
import type { LaptopChannel } from './channels.ts'
import { assertStatesAndTimes, type StateAndTime, type Tolerance } from './claims.ts'
import { type Duration, durationMs } from './duration.ts'
import { type Loaded, load, type Source } from './load.ts'
import type { Moment } from './recorder.ts'
import { SimulatedBody } from './simulatedbody.ts'
import { vcdLines } from './vcd.ts'

export interface SimulateOptions {
  /**
   * The board: a file, or its content as an object. Default: `board.json` beside the program's file. The board of a real robot
   * is simulated with the same handles.
   */
  board?: string | URL | object
  /** Values of parameters, instead of the declared defaults. */
  params?: Readonly<Record<string, ParamValue>>
  /** Config values. All names in the program's `config` must have one. */
  config?: Readonly<Record<string, string>>
  /** Seed of Math.random. Default 1. */
  seed?: number
  /** The date at the start. Default: the first of January 2026. */
  date?: Date
  /** How often the program is rehearsed on dummy handles (HANDOVER 4.2). Default 1; on a robot it is 20. */
  rehearsals?: number
  /**
   * `throw` (the default): a crash, or an undone swap, is thrown by the call in which it happens, after the robot has dealt
   * with it. `log`: it is only in the log and the receipts.
   */
  crashes?: 'throw' | 'log'
  /** `log`: the program's output goes to its log only, as on a robot. `leave` (the default): it is printed. */
  output?: 'leave' | 'log'
  /** Called with each line of the log as it comes. */
  onLog?: (line: SimulatedLine) => void
}

export interface SimulatedLine {
  /** ms since the start of the simulation. */
  readonly ms: number
  /** `log`, `stdout`, `stderr`: written by the program; `runtime`: written by the robot about it. */
  readonly stream: LogLine['stream']
  readonly level: LogLevel
  readonly text: string
}

/** A swap, whose trial goes on after `swap()` has returned. */
export interface Swap {
  /** `trial`, then the outcome in the receipt. */
  readonly outcome: 'trial' | Receipt['outcome']
  /** Bytes of state that were handed over. */
  readonly stateBytes: number
}

/** Starts a program on a simulated board, like a robot that is switched on. Time passes only in calls of the simulation. */
export async function simulate(program: Source, options: SimulateOptions = {}): Promise<Simulation> {
  const loaded = await load(program)
  const body = new SimulatedBody({
    board: await boardOf(options.board, loaded),
    rehearsals: options.rehearsals ?? 1,
    seed: options.seed ?? 1,
    epochMs: (options.date ?? new Date('2026-01-01T00:00:00Z')).getTime(),
    strict: options.crashes !== 'log',
    capture: options.output === 'log',
    config: options.config ?? {},
  })
  const simulation = new Simulation(body, options.onLog)
  try {
    const installed = body.install(loaded)
    await body.time.during(() => body.begin(installed, options.params ?? {}))
    return simulation
  } catch (error) {
    await body.time.during(() => body.close())
    throw error
  }
}

export class Simulation {
  readonly #body: SimulatedBody
  readonly #log: SimulatedLine[] = []
  /** Number of log lines that a wait for a text has taken or passed over. */
  #passed = 0

  /** Use {@link simulate}. */
  constructor(body: SimulatedBody, onLog?: (line: SimulatedLine) => void) {
    this.#body = body
    body.slot.log.follow(({ stream, level, text }) => {
      const line: SimulatedLine = { ms: this.ms, stream, level: (level ?? 'info') as LogLevel, text }
      this.#log.push(line)
      onLog?.(line)
    })
  }

  /** ms since the start. */
  get ms(): number {
    return this.#body.time.ns / 1e6
  }

  /**
   * Lets time pass: ms, or a text like `500ms`, `2s`, `10m`, `1h`, including events that are due at the very end. Returns
   * early when `done`, called after each event, returns true. Returns whether `done` is true.
   */
  async run(duration: Duration, done?: () => boolean): Promise<boolean> {
    const ns = BigInt(Math.round(durationMs(duration) * 1e6))
    const { time } = this.#body
    await time.during(() => this.#body.go(time.clock.now() + ns, done))
    return done?.() ?? false
  }

  /**
   * Lets time pass until `done` returns true, or until the log has a line with this text: the first one that no earlier wait
   * for a text has taken or passed over. That may be a line from before this call. Throws after `limit` (default 1m).
   */
  async until(done: (() => boolean) | string, limit: Duration = '1m'): Promise<void> {
    if (await this.run(limit, typeof done === 'string' ? this.nextLine(done) : done)) return
    throw new Error(
      `after ${durationMs(limit)} ms: ${typeof done === 'string' ? `nothing logged ${JSON.stringify(done)}` : 'the condition is still false'}`,
    )
  }

  /**
   * A `done` for `run`: true from the first line of the log with this text that no earlier wait for a text has taken or passed
   * over.
   */
  nextLine(text: string): () => boolean {
    let at = this.#passed
    let isFound = false
    return () => {
      for (; !isFound && at < this.#log.length; at++) {
        if (!this.#log[at]?.text.includes(text)) continue
        isFound = true
        this.#passed = at + 1
      }
      return isFound
    }
  }

  /** The level of an output or input, the duty cycle of a PWM, the degrees of a servo. */
  value(name: string): number {
    const value = this.#handle(name).value()
    if (value === undefined) throw new RangeError(`${name}: this handle has no value`)
    return value
  }

  /** Pulls the line of an input to a level, as a button does. The program's `onEdge` is called before this returns. */
  pull(name: string, level: Level): void {
    const driver = this.#body.board.wires.find(([, to]) => to === name)?.[0]
    if (driver !== undefined) throw new RangeError(`${name}: the board wires it to ${driver}, which is stronger`)
    this.#body.time.act(() => this.#body.world.pull(name, level))
  }

  /** Ends a `pull`: the line goes back to the level of its pull resistor in the board file. */
  release(name: string): void {
    this.#body.time.act(() => this.#body.world.pull(name, null))
  }

  /** Changes what the chip behind an i2c handle senses, or gives it a fault. */
  poke(name: string, what: string, value: unknown): void {
    this.#body.time.act(() => this.#body.world.poke(name, what, value))
  }

  /**
   * Calls `world` every `ms` with the seconds since its last call: a model of what the robot moves, and of what it then
   * senses. It runs before a tick of the program that is due at the same time. An exception is thrown by the call that lets
   * time pass.
   */
  every(ms: number, world: (dt: number) => void): void {
    const { clock } = this.#body.time
    const period = BigInt(Math.round(ms * 1e6))
    if (period <= 0n) throw new RangeError(`every(): expected more than 0 ms, got ${ms}`)
    const step = (): void => {
      clock.after(period, step)
      world(ms / 1000)
    }
    clock.after(period, step)
  }

  /** The state of the simulated chip behind a handle. */
  chip(name: string): ChipSnapshot {
    const chip = this.#body.world.chip(name)
    if (chip === null) throw new RangeError(`${name}: this handle has no simulated chip`)
    return chip
  }

  /** All values of a handle since the start, with their times. */
  changes(name: string): Moment[] {
    return this.#body.recorder.of(name)
  }

  /** `[[1, 0], [0, 500]]`: level 1 from the start, level 0 from 500 ms on, no other level in between. */
  assertStatesAndTimes(name: string, expected: readonly StateAndTime[], tolerance: Tolerance = {}): void {
    assertStatesAndTimes(name, this.changes(name), expected, tolerance)
  }

  /** Every change of every handle as a value change dump (IEEE 1364-2001), which GTKWave opens. */
  vcd(): string {
    return `${[...this.vcdLines()].join('\n')}\n`
  }

  /** `vcd()` line by line: an hour can have millions of lines. */
  vcdLines(): Generator<string> {
    const { recorder, owner, board, date } = this.#body
    const kinds = owner.kinds()
    const isLevel = (name: string) => kinds[name] === 'output' || kinds[name] === 'input'
    return vcdLines(recorder, { scope: board.name ?? 'board', date, isLevel })
  }

  /** All lines that the program, and the robot about it, have written. */
  get log(): readonly SimulatedLine[] {
    return this.#log
  }

  /** A copy of the program's state, as a swap would carry it. Undefined when nothing runs. */
  get state(): unknown {
    return this.#body.time.act(() => this.#body.actor?.state())
  }

  /** What a robot's receipts say of swaps, crashes and stops. */
  get receipts(): readonly Receipt[] {
    return this.#body.receipts
  }

  /** Changes a declared parameter, live. Throws `bad-param` for a value that it cannot have. */
  param(name: string, value: ParamValue): Promise<void> {
    return this.#body.time.during(() => this.#body.set({ [name]: value }))
  }

  /**
   * Opens a message channel with the program, as a laptop does; an earlier one of this name is over then. It stays open over swaps,
   * and waits for a program that has opened a channel of this name.
   */
  channel(name: string): LaptopChannel {
    if (!CHANNEL_NAME.test(name)) throw new RangeError(`channel(): expected a name like tune, got ${String(name)}`)
    return this.#body.time.act(() => this.#body.laptops.open(name))
  }

  /**
   * Replaces the program by another, as a robot does: rehearsal, state, migration, values of outputs, deadlines of `every`.
   * Time passes until the old program yields. Returns when the new program has taken over; its trial goes on as time passes.
   * Throws SimulationError with a code, like `migrate-failed`, when the old program runs on.
   */
  async swap(program: Source): Promise<Swap> {
    const body = this.#body
    const installed = body.install(await load(program))
    return swapOf(body, await body.time.during(() => body.swap(installed, 'push')))
  }

  /** Goes back to the previous program. */
  async rollback(): Promise<Swap> {
    const body = this.#body
    const { previous } = body
    if (previous === null) throw new RangeError('there is no program to go back to')
    return swapOf(body, await body.time.during(() => body.swap(previous, 'rollback')))
  }

  /** Ends the program as a crash does: safe levels now, and later a start from the last checkpoint. */
  crash(): Promise<void> {
    return this.#body.time.during(() => this.#body.crash())
  }

  /** Stops the program: its `onStop`, then the safe levels. Ends the simulation; values, log and receipts stay readable. */
  stop(): Promise<void> {
    return this.#body.time.during(() => this.#body.stop())
  }

  #handle(name: string) {
    for (const handle of this.#body.owner.all) if (handle.name === name) return handle
    throw new RangeError(`${name}: the board has no such handle`)
  }
}

function swapOf(body: SimulatedBody, upgrade: Upgrade): Swap {
  return {
    get outcome() {
      const receipt = body.receipts.findLast(({ to, gapMs }) => to === upgrade.to.digest && gapMs === upgrade.gapMs)
      return receipt?.outcome ?? 'trial'
    },
    stateBytes: upgrade.stateBytes,
  }
}

async function boardOf(given: SimulateOptions['board'], { folder }: Loaded): Promise<Board> {
  if (typeof given === 'object' && !(given instanceof URL))
    return asSimulated(JSON.stringify({ model: 'sim', ...given }), 'board')
  if (given === undefined && folder === null) {
    throw new TypeError('expected a board: { board: { handles: { led: { kind: "output", line: 17 } } } }')
  }
  const file = given instanceof URL ? fileURLToPath(given) : (given ?? join(folder as string, 'board.json'))
  return asSimulated(await readFile(file, 'utf8'), file)
}

/** Parses a board; one for a real robot becomes a simulated board with the same handles. */
function asSimulated(text: string, file: string): Board {
  const board = parseBoard(text, file)
  if (board.model === 'sim') return board
  const { chip: _, ...rest } = parseJson(text).value as { chip?: unknown }
  return parseBoard(JSON.stringify({ ...rest, model: 'sim' }), file)
}
