import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ACTIONS, EVENTS, type Event, STATES, type State, step, TABLE } from '../../runtime/body/lifecycle.ts'

/** Every cell that does something. What is not here changes nothing (HANDOVER 2.3). */
const CELLS = `
idle launch > starting: spawn-next
idle cooled > restarting: spawn-next
idle stop > idle: stopped
starting ready > starting: start-next
starting started > proving: promote begin-trial
starting next-failed > idle: safe-levels kill-next kill-current failed
starting next-died > idle: safe-levels kill-next kill-current failed
starting deadline > idle: safe-levels kill-next kill-current failed
starting stop > idle: safe-levels kill-next failed stopped
restarting ready > restarting: start-next
restarting started > running: promote back
restarting next-failed > cooling: safe-levels kill-next restart-later
restarting next-died > cooling: safe-levels kill-next restart-later
restarting deadline > cooling: safe-levels kill-next restart-later
restarting stop > idle: safe-levels kill-next stopped
proving proved > running: commit
proving unhealthy > idle: safe-levels kill-next kill-current failed
proving lost > idle: safe-levels kill-next kill-current failed
proving current-failed > idle: safe-levels kill-next kill-current failed
proving current-died > idle: safe-levels kill-next kill-current failed
proving stop > stopping: failed stop-current
running launch > preparing: spawn-next
running unhealthy > running: note
running lost > cooling: safe-levels kill-current restart-later
running current-failed > cooling: safe-levels kill-current restart-later
running current-died > cooling: safe-levels kill-current restart-later
running stop > stopping: stop-current
preparing ready > copying: copy
copying copied > preloading: preload
copying forced-deadline > forcing: kill-current
preloading preloaded > arming: arm
arming armed > yielding: yield
yielding took > trial: swap-roles begin-trial freeze-old
yielding unhealthy > yielding: note
yielding current-failed > running: kill-next call-off
yielding next-failed > running: kill-next resume-current call-off
yielding current-died > orphaned:
yielding next-died > running: kill-next resume-current call-off
yielding next-orphaned > cooling: safe-levels kill-current kill-next call-off restart-later
yielding deadline > running: kill-next resume-current call-off
yielding forced-deadline > forcing: kill-current
yielding stop > stopping: kill-next resume-current call-off stop-current
orphaned took > proving: promote begin-trial
orphaned next-failed > cooling: safe-levels kill-current kill-next call-off restart-later
orphaned next-died > cooling: safe-levels kill-current kill-next call-off restart-later
orphaned next-orphaned > cooling: safe-levels kill-current kill-next call-off restart-later
orphaned deadline > cooling: safe-levels kill-current kill-next call-off restart-later
orphaned forced-deadline > cooling: safe-levels kill-current kill-next call-off restart-later
orphaned stop > idle: safe-levels kill-next call-off stopped
trial proved > running: commit kill-old
trial unhealthy > undoing: hand-back
trial lost > resuming: kill-current resume-old
trial current-failed > resuming: kill-current resume-old
trial current-died > resuming: kill-current resume-old
trial old-died > proving: note
trial stop > stopping: kill-old failed stop-current
undoing handed-back > resuming: fill-inbox kill-current resume-old
undoing lost > resuming: kill-current resume-old
undoing current-failed > resuming: kill-current resume-old
undoing current-died > resuming: kill-current resume-old
undoing old-died > cooling: safe-levels kill-old kill-current kill-next undone restart-later
undoing deadline > resuming: kill-current resume-old
undoing stop > stopping: kill-old undone stop-current
resuming resumed > running: undone
resuming current-failed > cooling: safe-levels kill-old kill-current kill-next undone restart-later
resuming current-died > cooling: safe-levels kill-old kill-current kill-next undone restart-later
resuming deadline > cooling: safe-levels kill-old kill-current kill-next undone restart-later
resuming stop > stopping: undone stop-current
forcing current-died > starting: safe-levels start-next
forcing next-died > cooling: safe-levels kill-current kill-next call-off restart-later
forcing stop > idle: safe-levels kill-current kill-next call-off stopped
stopping current-died > idle: safe-levels stopped
stopping deadline > stopping: kill-current
cooling launch > starting: cancel-restart spawn-next
cooling cooled > restarting: spawn-next
cooling stop > idle: cancel-restart stopped
`
/** preparing to arming share these; SAME is the state itself. */
const UPGRADING = `
next-failed > running: kill-next call-off
next-died > running: kill-next call-off
current-failed > running: kill-next call-off
current-died > cooling: safe-levels kill-current kill-next call-off restart-later
lost > cooling: safe-levels kill-current kill-next call-off restart-later
unhealthy > SAME: note
deadline > running: kill-next call-off
stop > stopping: kill-next call-off stop-current
`
/** Wherever a slot is. */
const EVERYWHERE = `
halt > idle: safe-levels kill-next kill-current kill-old cancel-restart failed stopped
unfenced > idle: safe-levels kill-next kill-current kill-old cancel-restart failed
`
const lines = (text: string) => text.trim().split('\n')
const expected = new Map(
  [
    ...lines(CELLS),
    ...['preparing', 'copying', 'preloading', 'arming'].flatMap((s) =>
      lines(UPGRADING).map((l) => `${s} ${l.replace('SAME', s)}`),
    ),
    ...STATES.flatMap((s) => lines(EVERYWHERE).map((l) => `${s} ${l}`)),
  ].map((line) => line.split(' > ') as [string, string]),
)

test.each(STATES.flatMap((state) => EVENTS.map((event) => [state, event] as const)))('%s, %s', (state, event) => {
  const { state: after, actions } = step(state, event)
  const cell = expected.get(`${state} ${event}`) ?? `${state}:`
  expect(`${after}: ${actions.join(' ')}`.trim()).toBe(cell)
})

test('every action and every state is used', () => {
  const cells = Object.values(TABLE).flatMap((row) => Object.values(row))
  expect(new Set(cells.flatMap(({ actions }) => actions))).toEqual(new Set(ACTIONS))
  expect(new Set(cells.map(({ state }) => state))).toEqual(new Set(STATES))
})

/** What the actions do to roles, the lease and the upgrade, with everything that must never be. */
class Model {
  state: State = 'idle'
  current = false
  next = false
  old = false
  /** parked: has given its lease away */
  parked = false
  upgrade = false
  ended = 0
  safe = true

  can(event: Event): boolean {
    if (event === 'launch') return !this.upgrade && ['idle', 'running', 'cooling'].includes(this.state)
    if (
      ['ready', 'started', 'preloaded', 'armed', 'took', 'next-failed', 'next-died', 'next-orphaned'].includes(event)
    ) {
      return this.next
    }
    if (event === 'old-died') return this.old
    if (event === 'cooled') return this.state === 'cooling'
    if (event === 'stop' || event === 'halt' || event === 'unfenced' || event.endsWith('deadline')) return true
    return this.current
  }

  apply(event: Event): void {
    if (event === 'launch') this.upgrade = true
    if (event === 'took' && this.state === 'yielding') this.parked = true
    if (event === 'current-died') this.current = false
    if (event === 'next-died') this.next = false
    if (event === 'old-died') this.old = false
    const { state, actions } = step(this.state, event)
    this.state = state
    for (const action of actions) this.#do(action, event)
    if (state === 'idle' || state === 'cooling') {
      expect([this.current, this.next, this.old, this.upgrade]).toEqual([false, false, false, false])
      expect(this.safe).toBe(true)
    }
    if (state === 'running') {
      expect([this.current, this.next, this.old, this.upgrade]).toEqual([true, false, false, false])
      expect(this.parked).toBe(false)
    }
  }

  #do(action: (typeof ACTIONS)[number], event: Event): void {
    if (action === 'spawn-next') {
      expect(this.next).toBe(false)
      this.next = true
    } else if (action === 'start-next') {
      expect(this.current).toBe(false)
    } else if (action === 'promote') {
      expect(this.next).toBe(true)
      Object.assign(this, { current: true, next: false, safe: false })
    } else if (action === 'swap-roles') {
      expect([this.current, this.next, this.old]).toEqual([true, true, false])
      Object.assign(this, { old: true, current: true, next: false, parked: false })
    } else if (action === 'kill-next') this.next = false
    else if (action === 'kill-old') this.old = false
    else if (action === 'kill-current') {
      if (this.state !== 'forcing' && this.state !== 'stopping') this.current = false
    } else if (action === 'resume-old') {
      expect(this.current).toBe(false)
      Object.assign(this, { current: this.old, old: false })
    } else if (action === 'resume-current') {
      expect(this.next).toBe(false)
      this.parked = false
    } else if (action === 'safe-levels') this.safe = true
    else if (action === 'commit' || action === 'call-off' || action === 'undone' || action === 'failed') {
      // the emergency stop comes when it comes
      if (!this.upgrade && (event === 'halt' || event === 'unfenced')) return
      expect(this.upgrade).toBe(true)
      this.upgrade = false
      this.ended++
    } else if (action === 'stopped') this.current = false
  }
}

test('G12: any walk keeps one writer, ends each upgrade once, and never idles above safe levels', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...EVENTS), { maxLength: 60 }), (events) => {
      const model = new Model()
      for (const event of events) if (model.can(event)) model.apply(event)
    }),
    { numRuns: 5000, seed: 7 },
  )
})
