/**
 * Invariant: a parameter always has a value that its declaration allows, and only the body changes it (HANDOVER 11;
 * test/runtime/body/slot/params.test.ts).
 *
 * The build checks the declaration; the body checks each new value before it sends it to the program.
 */

export type ParamValue = number | boolean | string

/** `min` and `max` are inclusive. With `step` only whole steps from `min` (or 0) are allowed. `unit` is only shown. */
export interface NumberParam {
  readonly value: number
  readonly min?: number
  readonly max?: number
  readonly step?: number
  readonly unit?: string
}
export interface BooleanParam {
  readonly value: boolean
}
export interface ChoiceParam {
  readonly value: string
  readonly choices: readonly string[]
}
/** A parameter's declaration as the manifest holds it; `value` is the default. */
export type Declaration = NumberParam | BooleanParam | ChoiceParam

/** `gain: 1.2` and `armed: false` are short for `{ value }`. */
export type Params = Readonly<Record<string, number | boolean | Declaration>>
export type ParamValues<P extends Params> = { readonly [K in keyof P]: ValueOf<P[K]> }
type ValueOf<D> = D extends { readonly choices: readonly (infer C)[] }
  ? C
  : D extends number | NumberParam
    ? number
    : D extends boolean | BooleanParam
      ? boolean
      : ParamValue

const MAX_PARAMS = 64
const MAX_CHOICES = 32
const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,39}$/
const UNIT = /^[\x21-\x7e°µΩ²³]{1,16}$/u
/** No commas and spaces, as lists of choices are shown to people. */
const CHOICE = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/
const KEYS = { number: ['value', 'min', 'max', 'step', 'unit'], choice: ['value', 'choices'], boolean: ['value'] }

/** Checks declarations and returns their long forms. Throws TypeError that says what to write instead (HANDOVER 11.1). */
export function declare(params: Params = {}): Record<string, Declaration> {
  const names = Object.keys(params)
  if (names.length > MAX_PARAMS) throw new TypeError(`params: ${names.length} parameters, at most ${MAX_PARAMS}`)
  return Object.fromEntries(names.map((name) => [name, declaration(name, params[name])]))
}

function declaration(name: string, given: unknown): Declaration {
  const at = `params.${name}`
  if (!NAME.test(name)) throw new TypeError(`${at}: a name is a letter and up to 39 letters, digits, - or _`)
  const declared = typeof given === 'object' && given !== null ? { ...given } : { value: given }
  const { value, choices } = declared as { value?: unknown; choices?: unknown }
  if (typeof value === 'string' && choices === undefined) {
    const example = `${name}: { value: '${value}', choices: ['${value}', …] }`
    throw new TypeError(`${at}: a text needs the choices it may have, like ${example}`)
  }
  const type = typeof value === 'string' ? 'choice' : typeof value
  if (type !== 'number' && type !== 'boolean' && type !== 'choice') {
    const shape = '{ value: 1.2, min: 0, max: 5 }'
    throw new TypeError(`${at}: expected a number, true, false or an object like ${shape}, got ${shown(given)}`)
  }
  const extra = Object.keys(declared).find((key) => !KEYS[type].includes(key))
  if (extra !== undefined) throw new TypeError(`${at}: unknown key ${extra}, a ${type} has ${KEYS[type].join(', ')}`)
  if (type === 'choice') checkChoices(at, choices)
  if (type === 'number') checkNumber(at, declared as Record<string, unknown>)
  const wrong = misfit(declared as Declaration, value)
  if (wrong !== null) throw new TypeError(`${at}.value: ${wrong}`)
  return declared as Declaration
}

function checkChoices(at: string, choices: unknown): void {
  const list: unknown[] = Array.isArray(choices) ? choices : []
  const good = list.length > 0 && list.length <= MAX_CHOICES && new Set(list).size === list.length
  if (good && list.every((each) => typeof each === 'string' && CHOICE.test(each))) return
  throw new TypeError(`${at}.choices: expected 1 to ${MAX_CHOICES} different texts of letters, digits and ._+-`)
}

function checkNumber(at: string, { min, max, step, unit }: Record<string, unknown>): void {
  for (const [key, limit] of Object.entries({ min, max, step })) {
    if (limit !== undefined && !Number.isFinite(limit)) {
      throw new TypeError(`${at}.${key}: expected a number, got ${shown(limit)}`)
    }
  }
  if (step !== undefined && (step as number) <= 0) throw new TypeError(`${at}.step: expected more than 0, got ${step}`)
  if (min !== undefined && max !== undefined && (min as number) > (max as number)) {
    throw new TypeError(`${at}: min is ${min}, above max, which is ${max}`)
  }
  if (unit !== undefined && (typeof unit !== 'string' || !UNIT.test(unit))) {
    throw new TypeError(`${at}.unit: expected up to 16 characters without spaces, got ${shown(unit)}`)
  }
}

/** Null when the declaration allows `value`; else a text with what was expected and what came (HANDOVER 11.2). */
export function misfit(declared: Declaration, value: unknown): string | null {
  if ('choices' in declared) {
    if (declared.choices.includes(value as string)) return null
  } else if (typeof declared.value === 'boolean') {
    if (typeof value === 'boolean') return null
  } else if (Number.isFinite(value) && inRange(declared as NumberParam, value as number)) return null
  return `expected ${allowed(declared)}, got ${shown(value)}`
}

/** `0 to 5 V in steps of 0.1`, `slow or fast`, `true or false`. */
export function allowed(declared: Declaration): string {
  if ('choices' in declared) return declared.choices.join(' or ')
  if (typeof declared.value === 'boolean') return 'true or false'
  const { min, max, step, unit } = declared as NumberParam
  const span =
    min === undefined && max === undefined
      ? 'a number'
      : min === undefined
        ? `up to ${max}`
        : max === undefined
          ? `${min} or more`
          : `${min} to ${max}`
  return `${span}${unit === undefined ? '' : ` ${unit}`}${step === undefined ? '' : ` in steps of ${step}`}`
}

function inRange({ min, max, step }: NumberParam, value: number): boolean {
  if (value < (min ?? value) || value > (max ?? value)) return false
  if (step === undefined) return true
  const steps = (value - (min ?? 0)) / step
  // 0.3 is three steps of 0.1, but 0.3 / 0.1 is 2.9999999999999996 in floating point
  return Math.abs(steps - Math.round(steps)) <= 1e-9 * Math.max(1, Math.abs(steps))
}

const shown = (value: unknown): string => {
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value)
  return text.length > 60 ? `${text.slice(0, 57)}…` : text
}

/** The value of each parameter: the value in `set` if the declaration allows it, else the default. */
export function valuesOf(
  declared: Readonly<Record<string, Declaration>>,
  set: Readonly<Record<string, unknown>>,
): Record<string, ParamValue> {
  return Object.fromEntries(
    Object.entries(declared).map(([name, each]) => {
      const wanted = Object.hasOwn(set, name) ? set[name] : undefined
      return [name, wanted !== undefined && misfit(each, wanted) === null ? (wanted as ParamValue) : each.value]
    }),
  )
}

/** Adds the defaults of parameters without a value to `values`, and returns it. */
export function complete(values: Record<string, ParamValue>, params: Params = {}): Record<string, ParamValue> {
  for (const name of Object.keys(params)) {
    const each = params[name] as Params[string]
    if (!Object.hasOwn(values, name)) values[name] = typeof each === 'object' ? each.value : each
  }
  return values
}

/** Changes values of `params`. A message is handled between two ticks, so a tick sees all of them or none (HANDOVER 11.3). */
export function setParams(params: Record<string, ParamValue>, values: Readonly<Record<string, ParamValue>>): void {
  for (const name of Object.keys(values)) {
    if (Object.hasOwn(params, name)) params[name] = values[name] as ParamValue
  }
}

/** What a program sees as `params`: reads give the present value, a write throws. */
export function paramsView(values: Readonly<Record<string, ParamValue>>): Readonly<Record<string, ParamValue>> {
  const view = Object.create(null) as Record<string, ParamValue>
  for (const name of Object.keys(values)) {
    Object.defineProperty(view, name, {
      enumerable: true,
      get: () => values[name],
      set: () => {
        throw new TypeError(`params.${name} cannot be written by the program: medulla param ${name}=… changes it`)
      },
    })
  }
  return Object.freeze(view)
}
