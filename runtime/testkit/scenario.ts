/**
 * Invariant: a step of a scenario that was parsed has at most one time and one action, and a line of the log that it waits
 * for after an action; every time and name in it is of its kind.
 */
import { dirname, resolve } from 'node:path'
import * as z from 'zod'
import { mistake } from '../../drivers/board/mistake.ts'
import { BoardError } from '../../drivers/errors.ts'
import { JsonError, parseJson } from '../../drivers/json.ts'
import { durationMs } from './duration.ts'

const MAX_STEPS = 1000
const HELP = 'expected ms, or a time like "500ms", "2s" or "1h", of at most a day'

const duration = z.union([z.number(), z.string()], { error: HELP }).transform((value, context) => {
  try {
    return durationMs(value)
  } catch {
    context.addIssue({ code: 'custom', message: HELP })
    return z.NEVER
  }
})
const value = z.number()
const setting = z.union([z.number(), z.boolean(), z.string()], { error: 'expected a number, true, false or a text' })
const byHandle = <T extends z.ZodType>(type: T) => z.record(z.string(), type)
const yes = z.literal(true)

/** What a step can do. */
const actions = {
  pull: byHandle(z.literal([0, 1]))
    .optional()
    .describe('pulls lines of inputs to a level'),
  release: z.string().optional().describe('lets the line of an input go'),
  poke: byHandle(byHandle(z.unknown())).optional().describe('changes what chips sense, or gives them a fault'),
  param: byHandle(setting).optional().describe('changes parameters of the program'),
  'wait-log': z
    .string()
    .min(1)
    .optional()
    .describe('takes the first line with this text that no earlier wait-log took or passed over; waits for one'),
  expect: byHandle(value).optional().describe('handles that have these values, now or `within` a time'),
  state: byHandle(z.unknown()).optional().describe('what the state of the program has'),
  states: byHandle(z.array(z.tuple([value, duration])).min(1))
    .optional()
    .describe('all that handles did: [value, since when] from the first to the last'),
  swap: z.string().min(1).optional().describe('replaces the program by another: a file or a folder'),
  rollback: yes.optional().describe('goes back to the program before'),
  crash: yes.optional().describe('ends the program as a crash does'),
} as const
const ACTIONS = Object.keys(actions) as (keyof typeof actions)[]
/** Those that a `wait-log` in the same step does not follow: they look themselves. */
const LOOKS: readonly string[] = ['expect', 'state', 'states']

const step = z
  .strictObject({
    at: duration.optional().describe('first waits for this time, counted from the start'),
    delay: duration.optional().describe('first lets so much time pass'),
    within: duration.optional().describe('how long wait-log and expect may take'),
    tolerance: z.number().min(0).optional().describe('of values in expect and states'),
    ...actions,
  })
  .superRefine((given, context) => {
    const found = ACTIONS.filter((name) => given[name] !== undefined)
    const waits = (given.at === undefined ? 0 : 1) + (given.delay === undefined ? 0 : 1)
    if (waits === 2) context.addIssue({ code: 'custom', message: 'expected at or delay, not both' })
    const isAwaited = found.length === 2 && found.includes('wait-log') && !found.some((name) => LOOKS.includes(name))
    if (found.length > 1 && !isAwaited)
      context.addIssue({ code: 'custom', message: `expected one of ${found.join(' and ')} in a step` })
    if (found.length + waits === 0) {
      context.addIssue({ code: 'custom', message: `expected at, delay or one of ${ACTIONS.join(', ')}` })
    }
  })

const scenario = z.strictObject({
  $schema: z.string().optional(),
  name: z.string().min(1).max(120).optional(),
  program: z.string().min(1).optional().describe('a file or a folder, seen from here'),
  board: z.string().min(1).optional().describe('a board file, seen from here'),
  params: byHandle(setting).optional(),
  config: byHandle(z.string()).optional().describe('values of the names in the config of the program'),
  seed: z.number().int().optional().describe('for Math.random'),
  timeout: duration.optional().describe('simulated time in which all has to come true; default 60s'),
  crashes: z.enum(['fail', 'allow']).default('fail').describe('what a crash, or a swap that is undone, means'),
  steps: z.array(step).max(MAX_STEPS).default([]),
})

export type Step = z.output<typeof step>
export type Scenario = z.output<typeof scenario>
/** An empty one: a program that just runs. */
export const NO_SCENARIO: Scenario = { crashes: 'fail', steps: [] }

export function scenarioJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(scenario, { io: 'input', unrepresentable: 'any' })
}

/** `file` is where paths start from. Throws BoardError for the first mistake, with its place. */
export function parseScenario(text: string, file: string): Scenario {
  let json: ReturnType<typeof parseJson>
  try {
    json = parseJson(text)
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw new BoardError(file, '', error.message, error.fix, error.at)
  }
  const parsed = scenario.safeParse(json.value, { reportInput: true })
  if (!parsed.success) {
    const known = (path: readonly PropertyKey[]) => Object.keys(path.length === 0 ? scenario.shape : step.shape)
    const { place, why, fix } = mistake(file, json.value, parsed.error.issues[0] as z.core.$ZodIssue, known)
    throw new BoardError(file, place, why, fix, json.locate(place))
  }
  const found = parsed.data
  const seen = (path: string) => resolve(dirname(file), path)
  return {
    ...found,
    ...(found.program === undefined ? {} : { program: seen(found.program) }),
    ...(found.board === undefined ? {} : { board: seen(found.board) }),
    steps: found.steps.map((each) => (each.swap === undefined ? each : { ...each, swap: seen(each.swap) })),
  }
}
