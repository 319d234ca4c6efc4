/** Reads the parameters of a manifest, and trusts nothing in it (BUNDLE 4.3). */
import { LIMITS } from './limits.ts'
import { Fields, isObject, type JsonObject } from './strict.ts'

/** `value` is the default. With `step`, only whole steps from `min` (or from 0) are allowed. */
export type ManifestParam =
  | { value: number; min?: number; max?: number; step?: number; unit?: string }
  | { value: boolean }
  | { value: string; choices: string[] }

const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,39}$/
const UNIT = /^[\x21-\x7e°µΩ²³]{1,16}$/u
const CHOICE = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/

export function readParams(read: Fields): Record<string, ManifestParam> {
  const entries = Object.entries(read.object('params'))
  if (entries.length > LIMITS.params) read.fail(`'params' has ${entries.length}, at most ${LIMITS.params}`)
  return Object.fromEntries(
    entries.map(([name, value]) => {
      if (!NAME.test(name)) read.fail(`'params' has a malformed name ${JSON.stringify(name.slice(0, 80))}`)
      if (!isObject(value)) return read.fail(`'params' gives '${name}' no declaration`)
      return [name, readParam(new Fields(value, `manifest param ${name}`), value)]
    }),
  )
}

function readParam(read: Fields, { value }: JsonObject): ManifestParam {
  // the type of the default value decides which other keys are allowed (BUNDLE 4.3)
  if (typeof value === 'boolean') {
    read.keys(['value'])
    return { value }
  }
  if (typeof value === 'string') {
    read.keys(['value', 'choices'])
    const choices = read.list('choices', LIMITS.choices)
    const known = choices.filter((each): each is string => typeof each === 'string' && CHOICE.test(each))
    if (known.length !== choices.length || new Set(known).size !== known.length) read.fail(`'choices' is malformed`)
    if (!known.includes(value)) read.fail(`'value' is none of 'choices'`)
    return { value, choices: known }
  }
  if (typeof value !== 'number') return read.fail(`'value' must be a number, a boolean or a text`)
  read.keys(['value'], ['min', 'max', 'step', 'unit'])
  const limit = (key: 'min' | 'max' | 'step') => {
    if (!read.has(key)) return {}
    const given = read.get(key)
    return typeof given === 'number' ? { [key]: given } : read.fail(`'${key}' must be a number`)
  }
  const range: { min?: number; max?: number; step?: number } = { ...limit('min'), ...limit('max'), ...limit('step') }
  const { min = value, max = value, step } = range
  if (value < min || value > max) read.fail(`'value' is outside of its range`)
  if (step !== undefined && step <= 0) read.fail(`'step' must be above 0`)
  return { value, ...range, ...(read.has('unit') ? { unit: read.text('unit', UNIT, 16) } : {}) }
}
