/**
 * The module `medulla`, which robot programs import. It is bundled into each program.
 *
 * ```ts
 * import { robot } from 'medulla'
 * robot({ led: 'output' }, ({ led, every }) => {
 *   every(500, () => led.write(!led.value))
 * })
 * ```
 */
import type { ConfigNames } from './config.ts'
import { describe } from './describe.ts'
import type { AnyHost } from './hosts.ts'
import type { Params } from './params.ts'
import { Program } from './program.ts'
import { type Context, checkSpec, type Handles, type Needs, type RobotSpec } from './spec.ts'

export { HardwareError } from '../../drivers/errors.ts'
export type {
  Analog,
  Edge,
  I2cDevice,
  Input,
  Level,
  ListeningSocket,
  Output,
  Pwm,
  SerialPort,
  Servo,
  SpiDevice,
} from '../../drivers/program/handle.ts'
export type { Channel } from './messages.ts'
export type { Params } from './params.ts'
export type { Context, End, OnLive, RobotSpec, StateSpec, Why } from './spec.ts'

const HOST = Symbol.for('medulla.host')

/**
 * Declares the program; call it once, at the top of the file. `run` is called when the program becomes the one that
 * drives the hardware: at its start, or at the moment it takes over from another. Before that it is rehearsed several
 * times on dummy handles, without effects: no connection is made, no timer fires, no file is written. Whatever `run` keeps
 * outside of `state` must be something that the next program can make again.
 */
export function robot<const N extends Needs>(
  needs: N,
  run: (context: Handles<N> & Context<object, Params, readonly []>) => unknown,
): void
export function robot<
  const N extends Needs,
  S = object,
  const P extends Params = Params,
  const C extends ConfigNames = readonly [],
>(spec: RobotSpec<N, S, P, C>): void
export function robot(first: unknown, run?: unknown): void {
  const spec = (run === undefined ? first : { needs: first, run }) as RobotSpec<Needs, unknown, Params>
  checkSpec(spec)
  const host = (globalThis as { [HOST]?: AnyHost })[HOST]
  if (host === undefined) throw new Error('this is a robot program: start it with `medulla run`, not with node')
  if ('describe' in host) host.describe(host.gate.rehearse(() => describe(spec, () => host.enter?.('run'))))
  else if ('declare' in host) {
    const { gate } = host
    host.declare({ describe: () => gate.rehearse(() => describe(spec)), start: (on) => new Program(spec, on) })
  } else new Program(spec, host)
}
