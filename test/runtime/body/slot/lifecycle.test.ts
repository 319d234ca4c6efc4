/**
 * The lifecycle table against slotmodel.ts, over every walk: from each world that a slot can be in, each event that can come
 * there. A row that is absent, leads elsewhere, lacks an action or has it in the wrong place ends in a world that its state
 * does not describe, or in an action that must not happen.
 */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import {
  ACTIONS,
  type Action,
  EVENTS,
  type Event,
  FACTS,
  PHASE_OF,
  STATES,
  type State,
  step,
  TABLE,
  type Transition,
} from '../../../../runtime/body/slot/lifecycle.ts'
import { act } from './slotactions.ts'
import { alive, answers, due, happen, NEW_SLOT, stateOf, type World } from './slotmodel.ts'
import { verdictOf } from './slotverdicts.ts'

interface Place {
  state: State
  world: World
}

/** What slot.ts does with an event: the row's cause, then its actions. */
function play({ state, world }: Place, event: Event): Place & { row: Transition | null } {
  const row = step(state, event)
  const w = happen(world, event)
  if (row === null) return { state, world: w, row }
  const verdict = verdictOf(world, event)
  expect(row.reason === null ? null : { reason: row.reason, fault: row.fault }).toEqual(verdict)
  const moved = row.state !== state || row.actions.length > 0
  if (moved && w.upgrade !== null) w.upgrade.cause ??= row.reason
  for (const action of row.actions) act(w, action, event)
  return { state: row.state, world: w, row }
}

/** Every place that any walk reaches, with the events that led there, and every step between two of them. */
function explore() {
  const start: Place = { state: 'idle', world: NEW_SLOT }
  const places = new Map([[JSON.stringify(start), { ...start, walk: [] as Event[] }]])
  const steps: { from: Place; event: Event; to: Place & { row: Transition | null } }[] = []
  for (const from of places.values()) {
    for (const event of due(from.world)) {
      const walk = [...from.walk, event]
      try {
        const to = play(from, event)
        steps.push({ from, event, to })
        check(to)
        const { state, world } = to
        const key = JSON.stringify({ state, world })
        if (!places.has(key)) places.set(key, { state, world, walk })
      } catch (error) {
        throw new Error(`after ${walk.join(', ')} (from ${from.state}): ${(error as Error).message}`)
      }
    }
  }
  return { places: [...places.values()], steps }
}

/** How long a program may take for what it was asked for. */
const WAITS: Record<NonNullable<World['asked']>, (typeof FACTS)[State]['waits']> = {
  spawn: 'ready',
  start: 'ready',
  copy: 'yield',
  preload: 'ready',
  arm: 'ready',
  yield: 'yield',
  take: 'takeover',
  commit: null,
  'hand-back': 'yield',
  resume: 'ready',
  stop: 'stop',
}

/** What holds in every place. */
function check({ state, world: w }: Place): void {
  expect(state).toBe(stateOf(w))
  if (state === 'closed') return
  const programs = [w.current, w.next, w.old].filter(alive)
  const facts = FACTS[state]

  const writers = [w.current === 'live' || w.current === 'yielding' || w.current === 'resuming', w.next === 'live']
  expect(writers.filter(Boolean).length).toBeLessThan(2)
  if (!alive(w.current) && !alive(w.next))
    expect({ driven: w.driven, programs }).toEqual({ driven: false, programs: [] })
  if (programs.length > 0) expect(w.frozen, 'programs that were frozen for the safe levels are ended').toBe(false)
  if (alive(w.old)) expect(w.old, 'HANDOVER 7.5').toBe('frozen')

  expect(facts.waits).toBe(w.asked === null ? null : state === 'orphaned' ? 'orphan' : WAITS[w.asked])
  if (programs.length > 0) {
    const isEndSure = w.asked === 'commit' || w.current === 'ending'
    expect(facts.waits !== null || w.watched || isEndSure, 'a deadline or a heartbeat ends it').toBe(true)
  }
  const mayBeat = w.asked !== 'stop' && (w.current === 'live' || w.current === 'yielding' || w.current === 'resuming')
  if (w.watched && w.current !== 'dead') expect(mayBeat, 'only who can beat is watched').toBe(true)

  const isAlone = w.current === 'live' && !w.inTrial && !alive(w.next)
  expect(facts.checkpoints === true, 'HANDOVER 9.1').toBe(isAlone && (w.asked === null || w.asked === 'commit'))
  expect(facts.edgesToNext === true, 'HANDOVER 6.6').toBe(alive(w.next) && (w.asked === 'yield' || w.asked === 'take'))

  expect(w.restartTimer).toBe(state === 'cooling')
  const isResting = state === 'idle' || state === 'cooling' || state === 'waiting' || state === 'running'
  if (isResting) expect(w.stopAsked, 'who asked for a stop is answered').toBe(false)
  if (isResting || state === 'restarting' || state === 'stopping') expect(w.upgrade).toBe(null)
  else expect(w.upgrade).not.toBe(null)
  if (state === 'running') expect([w.watched, w.waits, w.startDue]).toEqual([true, 'no', false])
  if (state === 'idle') expect(w.startDue, 'a program that nobody stopped is started again').toBe(w.wanted)
}

const { places, steps } = explore()

test('HANDOVER 6.5, 7.5, 7.6: G12: every walk keeps one writer, a deadline or a heartbeat for each program, and ends each upgrade once', () => {
  expect(places.length).toBeGreaterThan(100)
  expect(new Set(places.map(({ state }) => state))).toEqual(new Set(STATES))
})

test('HANDOVER 2.3: an event that can come has a row, and each row is of an event that can come', () => {
  const lost = steps.filter(({ to }) => to.row === null).map(({ from, event }) => `${from.state} ${event}`)
  expect([...new Set(lost)]).toEqual([])
  const walked = new Set(steps.map(({ from, event }) => `${from.state} ${event}`))
  const rows = STATES.flatMap((state) => Object.keys(TABLE[state]).map((event) => `${state} ${event}`))
  expect(rows.filter((row) => !walked.has(row))).toEqual([])
  expect(EVENTS.filter((event) => step('closed', event) !== null)).toEqual([])
})

test('HANDOVER 2.2: from every place, what is under way comes to rest when the programs do as they are asked', () => {
  const rests = new Set<State>(['idle', 'running', 'waiting', 'closed'])
  for (const place of places) {
    let reached = [place as Place]
    for (let moves = 0; moves < 20 && reached.length > 0; moves++) {
      reached = reached.flatMap((from) => answers(from.world).map((event) => play(from, event)))
    }
    expect({ walk: place.walk, reached }).toEqual({ walk: place.walk, reached: [] })
  }
  const still = places.filter(({ world }) => answers(world).length === 0)
  expect(new Set(still.map(({ state }) => state))).toEqual(rests)
})

/** A walk of these events, with the phases that a receipt would name. */
function walk(from: Place, events: readonly Event[]): Place & { phases: string[] } {
  const phases: string[] = []
  let place = from
  for (const event of events) {
    const to = play(place, event)
    for (const action of to.row?.actions ?? []) {
      const phase = PHASE_OF[action]
      if (phase !== undefined && phase !== phases.at(-1)) phases.push(phase)
    }
    place = to
  }
  return { ...place, phases }
}
const FIRST: Event[] = ['launch', 'ready', 'started', 'proved', 'committed']
const SWAP: Event[] = ['launch', 'ready', 'copied', 'preloaded', 'armed', 'yielded', 'took', 'proved', 'committed']

test('HANDOVER 2.6: a first push and a swap are committed after start or takeover, trial and commit', () => {
  const first = walk({ state: 'idle', world: NEW_SLOT }, FIRST)
  expect([first.state, first.phases]).toEqual(['running', ['spawn', 'trial', 'commit']])
  const swap = walk(first, SWAP)
  expect([swap.state, swap.phases]).toEqual(['running', ['spawn', 'copy', 'arm', 'yield', 'trial', 'commit']])
  expect(swap.world).toEqual(first.world)
})

test('an upgrade that fails after its candidate started ends in the phase undo', () => {
  const running = walk({ state: 'idle', world: NEW_SLOT }, FIRST)
  for (let done = 1; done < SWAP.length - 1; done++) {
    const { state, phases } = walk(running, [...SWAP.slice(0, done), done < 7 ? 'next-died' : 'current-died'])
    expect([state, phases.at(-1)]).toEqual([done < 7 ? 'running' : 'resuming', 'undo'])
  }
  expect(walk(running, [...SWAP.slice(0, 7), 'unhealthy']).phases.at(-1)).toBe('undo')
  expect(walk(running, [...SWAP.slice(0, 2), 'forced-deadline']).phases.at(-1)).toBe('undo')
})

const rows = steps.flatMap(({ from, event, to }) => (to.row === null ? [] : [{ from, event, row: to.row }]))

test('HANDOVER 9.2: safe levels come first in a row, and in each row that leaves a slot with programs empty', () => {
  for (const { from, event, row } of rows) {
    const at = row.actions.indexOf('safe-levels')
    expect(at, `${from.state} ${event}`).toBeLessThan(1)
    const isEmptied = row.state === 'idle' || row.state === 'cooling' || row.state === 'waiting'
    const had = [from.world.current, from.world.next, from.world.old].some(alive)
    if (isEmptied && had && event !== 'nothing-stored') expect(at, `${from.state} ${event}`).toBe(0)
  }
})

test('what writes to the disk comes last: a receipt or a confirmed stop keeps no program and no output waiting', () => {
  const after: Partial<Record<Action, readonly Action[]>> = {
    'finish-commit': ['kill-old'],
    'end-upgrade': ['restart-later', 'stop-current', 'stopped', 'stop-failed'],
    stopped: [],
    'stop-failed': [],
    'restart-later': [],
    wait: [],
    back: [],
  }
  for (const { from, event, row } of rows) {
    row.actions.forEach((action, index) => {
      const wrong = row.actions.slice(index + 1).filter((later) => after[action]?.includes(later) === false)
      expect(wrong, `${from.state} ${event}: after ${action}`).toEqual([])
    })
    // A push is reported before the end of the old program is awaited.
    expect(row.actions.indexOf('finish-commit'), `${from.state} ${event}`).toBeLessThan(1)
  }
})

test('HANDOVER 10.1: a deadline ends what it is for: nothing is awaited twice, and who ignores a stop is killed', () => {
  for (const { from, event, to } of steps) {
    if (event !== 'deadline' && event !== 'forced-deadline') continue
    const isStill = to.world.asked === from.world.asked && to.world.current === from.world.current
    expect(isStill && to.world.current !== 'ending', `${from.state} ${event}`).toBe(false)
  }
})

test('HANDOVER 7.7: only a candidate that failed is blamed, and never for the end of the old program or an order', () => {
  const blamed = rows.filter(({ row }) => row.fault === 'candidate')
  for (const { from, event } of blamed) expect(from.world.upgrade, `${from.state} ${event}`).not.toBe(null)
  const events = new Set(blamed.map(({ event }) => event))
  for (const event of [
    'stop',
    'halt',
    'unfenced',
    'old-died',
    'next-orphaned',
    'spawn-failed',
    'commit-failed',
  ] as const)
    expect(events).not.toContain(event)
})

test('every action is used', () => {
  expect(new Set(rows.flatMap(({ row }) => row.actions))).toEqual(new Set(ACTIONS))
})

test('HANDOVER 2.7: slot.ts assigns and compares no state by its name', () => {
  const source = readFileSync(new URL('../../../../runtime/body/slot/slot.ts', import.meta.url), 'utf8')
  expect(source.match(/#state [!=]==? '|state [!=]== '|\.includes\(this\.#state/g)).toEqual(null)
  expect(source.match(/#state(?:: State)? = (?!state\b).*/g)).toEqual(["#state: State = 'idle'"])
})
