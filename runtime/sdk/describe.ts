/** Describes a program for its manifest, by one call of `run` on paper handles: no hardware, no ticks. */

import { configNames } from './config.ts'
import { paperHandle } from './dummies.ts'
import type { StageHooks } from './hooks.ts'
import { Instance } from './instance.ts'
import { declare, type Params, paramsView, valuesOf } from './params.ts'
import { type Description, type Needs, type RobotSpec, SpecError, suggestion } from './spec.ts'
import { type Init, SDK_VERSION, WIRE } from './wire.ts'

/** `entering` is called just before `run`. */
export function describe(spec: RobotSpec<Needs, unknown, Params>, entering: () => void = () => {}): Description {
  const initial = spec.state?.initial()
  const handles = new Map(Object.entries(spec.needs).map(([name, kind]) => [name, paperHandle(name, kind)]))
  const init = { program: 'describe', version: '0.0.0', slot: 'main', dataDir: '/run/medulla/data' } as Init
  const nothing = () => {}
  const hooks: StageHooks = {
    why: () => 'rehearsal',
    log: nothing,
    afterTick: () => true,
    released: nothing,
    failed: nothing,
    textOf: String,
  }
  const declared = declare(spec.params)
  const params = paramsView(valuesOf(declared, {}))
  const instance = new Instance({ spec, init, handles, params }, hooks, initial ?? {})
  let mistake: SpecError | null = null
  const keepFirst = (found: SpecError): void => {
    mistake ??= found
  }
  const wrap = (context: object): object => {
    const { config } = context as { config: object }
    return watched({ ...context, config: watched(config, 'config has no', keepFirst) }, 'run() is given no', keepFirst)
  }
  entering()
  try {
    instance.begin(false, wrap)
  } catch {
    // paper handles read zeros, so a program that checks a chip's identity may throw here; its rates stay unknown
  }
  if (mistake !== null) throw mistake
  return {
    needs: { ...spec.needs },
    ratesMs: instance.ticker.ticks.map((tick) => tick.ms),
    state: spec.state
      ? { version: spec.state.version, encoding: initial instanceof Uint8Array ? 'bytes' : 'json' }
      : null,
    params: declared,
    config: configNames(spec.config),
    wire: WIRE,
    sdk: SDK_VERSION,
  }
}

/** Names that the language reads on any object: `await` reads `then`, JSON.stringify reads `toJSON`. */
const ASKED_OF_ALL = ['then', 'toJSON']

/** Reading an unknown name, as in `run({ lde })` or `config.TOKN`, throws and reports a typing mistake of the author. */
function watched(given: object, hasNo: string, onMistake: (mistake: SpecError) => void): object {
  return new Proxy(given, {
    get(target, name, receiver) {
      if (typeof name === 'symbol' || name in target || ASKED_OF_ALL.includes(name)) {
        return Reflect.get(target, name, receiver)
      }
      const mistake = new SpecError(name, `${hasNo} '${name}'${suggestion(name, Object.keys(target))}`)
      onMistake(mistake)
      throw mistake
    },
  })
}
