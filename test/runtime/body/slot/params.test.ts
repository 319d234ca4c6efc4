import { expect, test } from 'vitest'
import type { Manifest } from '../../../../deploy/shared/bundle/manifest.ts'
import type { ManifestParam } from '../../../../deploy/shared/bundle/params.ts'
import { SlotParams } from '../../../../runtime/body/slot/params.ts'
import type { Running } from '../../../../runtime/body/slot/running.ts'
import {
  type Declaration,
  declare,
  misfit,
  type Params,
  type ParamValues,
  paramsView,
  valuesOf,
} from '../../../../runtime/sdk/params.ts'
import { checkSpec, type Needs, type RobotSpec } from '../../../../runtime/sdk/spec.ts'
import type { ToProgram } from '../../../../runtime/sdk/wire.ts'
import type { ParamSets } from '../../../../runtime/store/slots.ts'

const GOOD = {
  kp: { value: 1.2, min: 0, max: 5 },
  duty: { value: 0.3, min: 0, max: 1, step: 0.1, unit: '%' },
  mode: { value: 'slow', choices: ['slow', 'fast'] },
  armed: false,
  gain: 2,
} as const

test.each<[string, Params, RegExp]>([
  ['a text without choices', { mode: 'slow' } as never, /params\.mode: a text needs .*choices: \['slow', …\]/],
  ['a list', { x: [1] } as never, /expected a number, true, false or an object/],
  ['null', { x: null } as never, /expected a number, true, false or an object .* got null/],
  ['no value', { x: { min: 1 } } as never, /expected a number/],
  ['NaN', { x: Number.NaN }, /params\.x\.value: expected a number, got NaN/],
  ['a default above its range', { x: { value: 6, max: 5 } }, /params\.x\.value: expected up to 5, got 6/],
  ['a default between steps', { x: { value: 0.25, step: 0.1 } }, /in steps of 0\.1, got 0\.25/],
  ['a range the wrong way round', { x: { value: 1, min: 2, max: 0 } }, /min is 2, above max/],
  ['a limit that is no number', { x: { value: 1, min: '0' } } as never, /x\.min: expected a number, got "0"/],
  ['a step of nothing', { x: { value: 1, step: 0 } }, /step: expected more than 0/],
  ['a unit with spaces', { x: { value: 1, unit: 'm per s' } }, /unit: expected/],
  ['a default that is no choice', { x: { value: 'a', choices: ['b'] } }, /x\.value: expected b, got "a"/],
  ['a choice twice', { x: { value: 'a', choices: ['a', 'a'] } }, /choices: expected 1 to 32 different/],
  ['a choice with a comma', { x: { value: 'a', choices: ['a', 'b,c'] } }, /choices: expected/],
  ['a choice of numbers', { x: { value: 1, choices: [1, 2] } } as never, /unknown key choices, a number has/],
  ['a boolean with a range', { x: { value: true, min: 0 } } as never, /unknown key min, a boolean has value/],
  ['a name with a space', { 'a b': 1 }, /a name is a letter/],
  ['a name of the prototype', JSON.parse('{"__proto__": 1}'), /a name is a letter/],
  [
    '65 parameters',
    Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`p${i}`, i])),
    /65 parameters, at most 64/,
  ],
])('HANDOVER 11.1: %s is refused at build, with what to write instead', (_, params, message) => {
  expect(() => checkSpec({ needs: {}, params, run: () => {} } satisfies RobotSpec<Needs, object, Params>)).toThrow(
    message,
  )
})

test('a program sees its parameters by their own types', () => {
  const seen: ParamValues<typeof GOOD> = { kp: 2, duty: 0.3, mode: 'fast', armed: true, gain: 1 }
  // @ts-expect-error: not one of the choices
  const wrong: ParamValues<typeof GOOD> = { ...seen, mode: 'none' }
  // @ts-expect-error: a program cannot write parameters
  seen.kp = 3
  expect(wrong.mode).toBe('none')
})

test('HANDOVER 11.2: allowed values pass, and others are refused with what was expected', () => {
  const { kp, duty, mode, armed } = declare(GOOD) as Record<string, Declaration>
  for (const [declared, value] of [[kp, 0], [kp, 5], [duty, 0.7], [mode, 'fast'], [armed, true]] as const) // biome-ignore format: a table
    expect(misfit(declared as Declaration, value)).toBeNull()
  expect(misfit(kp as Declaration, 5.1)).toBe('expected 0 to 5, got 5.1')
  expect(misfit(kp as Declaration, '1')).toBe('expected 0 to 5, got "1"')
  expect(misfit(kp as Declaration, Number.POSITIVE_INFINITY)).toBe('expected 0 to 5, got Infinity')
  expect(misfit(duty as Declaration, 0.75)).toBe('expected 0 to 1 % in steps of 0.1, got 0.75')
  expect(misfit(mode as Declaration, 'Fast')).toBe('expected slow or fast, got "Fast"')
  expect(misfit(armed as Declaration, 1)).toBe('expected true or false, got 1')
})

test('HANDOVER 11.3: params gives present values, and a program cannot write it', () => {
  const values = valuesOf(declare(GOOD), { kp: 2, mode: 'none', other: 1 })
  const view = paramsView(values) as Record<string, unknown>
  expect({ ...view }).toEqual({ kp: 2, duty: 0.3, mode: 'slow', armed: false, gain: 2 })
  values.kp = 3
  expect(view.kp).toBe(3)
  expect(() => Object.assign(view, { kp: 9 })).toThrow('medulla param kp=…')
  expect(() => Object.assign(view, { more: 9 })).toThrow(TypeError)
  expect(() => Object.defineProperty(view, 'kp', { value: 9 })).toThrow(TypeError)
  expect(view.kp).toBe(3)
})

const of = (params: Record<string, ManifestParam>, program = 'rover', takesStateOf?: string) => ({
  program,
  manifest: { params, ...(takesStateOf === undefined ? {} : { takesStateOf }) } as Manifest,
})

/** The parameters of a slot with one program, whose disk is an array. */
function slot(declared: Record<string, ManifestParam>, set: Record<string, number | boolean | string> = {}) {
  const sent: ToProgram[] = []
  const saved: Record<string, number | boolean | string>[] = []
  const notes: string[] = []
  const running = { child: { send: (message: ToProgram) => sent.push(message) }, runnable: of(declared) }
  const store = {
    params: () => ({ rover: set }),
    saveParams: async (sets: ParamSets) => {
      saved.push({ ...sets.rover })
    },
    committed: async () => null,
  }
  const programs = { current: running as unknown as Running, next: null }
  const params = new SlotParams('main', store, programs, (_, text) => notes.push(text))
  return { params, sent, saved, notes, running: running as unknown as Running }
}

const KP = { kp: { value: 1.2, min: 0, max: 5 }, mode: { value: 'slow', choices: ['slow', 'fast'] } }

test('HANDOVER 11.2: a change is applied as a whole, or not at all', async () => {
  const { params, sent, saved } = slot(KP)
  expect(() => params.change({ set: { kp: 2, mode: 'no' } }, of(KP), 'ann')).toThrow(
    'mode: expected slow or fast, got "no"',
  )
  expect(() => params.change({ set: { kp: 2, ki: 1 } }, of(KP), 'ann')).toThrow('has no parameter ki; it has: kp, mode')
  expect(() => params.change({ reset: ['kp', 'ki'] }, of(KP), 'ann')).toThrow('ki')
  expect(() => params.change({ set: JSON.parse('{"constructor": 1}') }, of(KP), 'ann')).toThrow('constructor')
  expect([sent, saved, params.values(of(KP))]).toEqual([[], [], { kp: 1.2, mode: 'slow' }])
  await params.change({ set: { kp: 2, mode: 'fast' } }, of(KP), 'ann')
  expect(sent).toEqual([{ t: 'params', values: { kp: 2, mode: 'fast' } }])
  expect(saved).toEqual([{ kp: 2, mode: 'fast' }])
  await params.change({ reset: ['kp'] }, of(KP), 'ann')
  expect(params.report(of(KP))).toEqual([
    { name: 'kp', type: 'number', value: 1.2, default: 1.2, set: false, min: 0, max: 5 },
    { name: 'mode', type: 'choice', value: 'fast', default: 'slow', set: true, choices: ['slow', 'fast'] },
  ])
  await params.change({ reset: 'all' }, of(KP), 'ann')
  expect(saved.at(-1)).toEqual({})
})

test('HANDOVER 11.6: 10,000 changes at once cause two messages, two writes, and one log line for each author', async () => {
  const { params, sent, saved, notes } = slot(KP)
  const answers = Array.from({ length: 10_000 }, (_, i) =>
    params.change({ set: { kp: (i % 500) / 100 } }, of(KP), i % 2 === 0 ? 'ann' : 'bob'),
  )
  // all changes share one pending write
  expect(new Set(answers).size).toBe(1)
  await Promise.all(answers)
  await params.change({ set: { kp: 3 } }, of(KP), 'ann')
  await params.close()
  expect(sent.length).toBeLessThanOrEqual(3)
  expect(sent.at(-1)).toEqual({ t: 'params', values: { kp: 3, mode: 'slow' } })
  expect(saved).toEqual([{ kp: 4.99 }, { kp: 3 }])
  expect(notes).toHaveLength(3)
  expect(notes[0]).toMatch(/^params: kp 1\.2 -> 4\.98, by ann \(5000 changes\)$/)
  expect(notes[2]).toBe('params: kp 4.99 -> 3, by ann')
})

test('HANDOVER 11.4, 11.5: a commit removes and reports values that are no longer allowed; a parked program gets new values', async () => {
  const { params, sent, saved, notes, running } = slot(KP, { kp: 4, mode: 'fast', old: 1 })
  const next = { kp: { value: 1, max: 3 }, mode: { value: 'fast', choices: ['fast', 'faster'] } }
  expect(params.values(of(next))).toEqual({ kp: 1, mode: 'fast' })
  params.tell(running)
  expect(sent).toEqual([{ t: 'params', values: { kp: 4, mode: 'fast' } }])
  expect(params.settle(of(next))).toEqual([
    'kp=4 was not kept: it is 1, allowed is up to 3',
    'old=1 was not kept: it has no such parameter',
  ])
  expect(notes).toHaveLength(2)
  // reset while it was parked
  await params.change({ reset: 'all' }, of(next), 'ann')
  params.tell(running)
  expect(sent.at(-1)).toEqual({ t: 'params', values: { kp: 1.2, mode: 'slow' } })
  await params.close()
  expect(saved.at(-1)).toEqual({})
})

test('HANDOVER 11.8: set values belong to a program name, are kept while another runs, and follow a renaming', async () => {
  const { params, saved } = slot(KP, { kp: 4 })
  const boat = of(KP, 'boat')
  expect(params.values(boat)).toEqual({ kp: 1.2, mode: 'slow' })
  expect(params.settle(boat)).toEqual([])
  await params.change({ set: { mode: 'fast' } }, boat, 'ann')
  expect(params.values(of(KP))).toEqual({ kp: 4, mode: 'slow' })
  expect(params.values(boat)).toEqual({ kp: 1.2, mode: 'fast' })
  // renamed, with takesStateOf
  const tank = of(KP, 'tank', 'rover')
  expect(params.values(tank)).toEqual({ kp: 4, mode: 'slow' })
  expect(params.settle(tank)).toEqual([])
  await params.change({ reset: ['kp'] }, tank, 'ann')
  expect(params.values(tank)).toEqual({ kp: 1.2, mode: 'slow' })
  expect(params.values(of(KP))).toEqual({ kp: 4, mode: 'slow' })
  await params.close()
  expect(saved.at(-1)).toEqual({ kp: 4 })
})
