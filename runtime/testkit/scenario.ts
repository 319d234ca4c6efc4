/**
 * Parses scenario files. In a parsed scenario each step has at most one of `at` and `delay`, and at most one action,
 * besides a `wait-log` after it.
 */
import { dirname, resolve } from 'node:path'
import * as z from 'zod'
import { boardErrorOf } from '../../drivers/board/mistake.ts'
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

/** The actions of a step. */
const actions = {
  pull: byHandle(z.literal([0, 1]))
    .optional()
    .describe('pulls the lines of inputs to a level'),
  release: z.string().optional().describe('releases the line of an input'),
  poke: byHandle(byHandle(z.unknown())).optional().describe('changes what chips sense, or gives them a fault'),
  param: byHandle(setting).optional().describe('changes parameters of the program'),
  send: byHandle(z.unknown()).optional().describe('sends a message on message channels, as a laptop does'),
  'wait-log': z
    .string()
    .min(1)
    .optional()
    .describe('waits for the next log line with this text: the first that no earlier wait-log took or passed over'),
  expect: byHandle(value).optional().describe('expects these values of handles, now or `within` a time'),
  state: byHandle(z.unknown()).optional().describe("expects these values in the program's state"),
  messages: byHandle(z.array(z.unknown()))
    .optional()
    .describe('expects exactly these messages of the program since the last such step, now or `within` a time'),
  states: byHandle(z.array(z.tuple([value, duration])).min(1))
    .optional()
    .describe('expects exactly these values of handles: [value, from when], from the first time to the last'),
  swap: z.string().min(1).optional().describe('replaces the program by another: a file or a folder'),
  rollback: yes.optional().describe('goes back to the previous program'),
  crash: yes.optional().describe('ends the program as a crash does'),
} as const
const ACTIONS = Object.keys(actions) as (keyof typeof actions)[]
/** Actions that only check: no `wait-log` may follow in the same step. */
const LOOKS: readonly string[] = ['expect', 'state', 'messages', 'states']

const step = z
  .strictObject({
    at: duration.optional().describe('first waits until this time, counted from the start'),
    delay: duration.optional().describe('first lets this time pass'),
    within: duration.optional().describe('how long wait-log, expect and messages may take'),
    tolerance: z.number().min(0).optional().describe('allowed deviation of values in expect and states'),
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
  program: z.string().min(1).optional().describe('a file or a folder, relative to this file'),
  board: z.string().min(1).optional().describe('a board file, relative to this file'),
  params: byHandle(setting).optional(),
  config: byHandle(z.string()).optional().describe("config values that the program's `config` names"),
  seed: z.number().int().optional().describe('seed of Math.random'),
  timeout: duration.optional().describe('simulated time for the whole scenario; default 60s'),
  crashes: z.enum(['fail', 'allow']).default('fail').describe('whether a crash, or an undone swap, fails the scenario'),
  steps: z.array(step).max(MAX_STEPS).default([]),
})

export type ScenarioStep = z.output<typeof step>
export type Scenario = z.output<typeof scenario>
/** Without a scenario file the program just runs. */
export const NO_SCENARIO: Scenario = { crashes: 'fail', steps: [] }

export function scenarioJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(scenario, { io: 'input', unrepresentable: 'any' })
}

/** Paths are relative to `file`. Throws BoardError for the first mistake, with its place. */
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
    const { place, why, fix } = boardErrorOf(file, json.value, parsed.error.issues[0] as z.core.$ZodIssue, known)
    throw new BoardError(file, place, why, fix, json.locate(place))
  }
  const found = parsed.data
  const absolute = (path: string) => resolve(dirname(file), path)
  return {
    ...found,
    ...(found.program === undefined ? {} : { program: absolute(found.program) }),
    ...(found.board === undefined ? {} : { board: absolute(found.board) }),
    steps: found.steps.map((each) => (each.swap === undefined ? each : { ...each, swap: absolute(each.swap) })),
  }
}
