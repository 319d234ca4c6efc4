/** Invariant: describing a program touches no hardware and starts no loop; it is one dry call of `run`. */
import { paperHandle } from './dummies.ts'
import { Instance } from './instance.ts'
import { declare, type Params, paramsView, valuesOf } from './params.ts'
import type { Description, Needs, RobotSpec } from './spec.ts'
import type { Outside } from './stage.ts'
import { type Init, SDK_VERSION, WIRE } from './wire.ts'

export function describe(spec: RobotSpec<Needs, unknown, Params>): Description {
  const initial = spec.state?.initial()
  const handles = new Map(Object.entries(spec.needs).map(([name, kind]) => [name, paperHandle(name, kind)]))
  const init = { program: 'describe', version: '0.0.0', slot: 'main' } as Init
  const nothing = () => {}
  const outside: Outside = {
    why: () => 'rehearsal',
    log: nothing,
    afterTick: () => true,
    released: nothing,
    failed: nothing,
  }
  const declared = declare(spec.params)
  const params = paramsView(valuesOf(declared, {}))
  const instance = new Instance({ spec, init, handles, params }, outside, initial ?? {})
  try {
    instance.begin(false)
  } catch {
    // paper handles read zeros: a program that checks a chip's identity may throw here, and its rates stay unknown
  }
  return {
    needs: { ...spec.needs },
    ratesMs: instance.ticker.ticks.map((tick) => tick.ms),
    state: spec.state
      ? { version: spec.state.version, encoding: initial instanceof Uint8Array ? 'bytes' : 'json' }
      : null,
    params: declared,
    wire: WIRE,
    sdk: SDK_VERSION,
  }
}
