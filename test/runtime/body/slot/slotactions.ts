/** Plays the actions of the lifecycle table in the model, and throws where one does something that must never happen. */
import type { Action, Event } from '../../../../runtime/body/slot/lifecycle.ts'
import { type Asked, alive, nothingRuns, type World } from './slotmodel.ts'

function must(holds: boolean, text: string): void {
  if (!holds) throw new Error(`must hold: ${text}`)
}

/** Plays an action; `event` is the one whose row it is in. */
export function act(w: World, action: Action, event: Event): void {
  const ask = (asked: Asked): void => {
    must(w.asked === null, `nothing else is asked for when ${asked} is`)
    w.asked = asked
  }
  switch (action) {
    case 'spawn-next':
    case 'spawn-committed':
      must(!alive(w.next), 'the last candidate is dead before another one is started (HANDOVER 6.5)')
      must(!w.restartTimer, 'no restart is due while a program is being started')
      must((w.upgrade !== null) === (action === 'spawn-next'), 'a push starts its own program')
      Object.assign(w, { next: 'loading', frozen: false })
      return ask('spawn')
    case 'start-next':
      must(!alive(w.current) && alive(w.next), 'a program is started where none runs')
      must(!w.driven, 'a program is started onto the safe levels')
      Object.assign(w, { driven: true, frozen: false })
      return ask('start')
    case 'copy':
    case 'preload':
    case 'arm':
      must(w.current === 'live' && alive(w.next), 'both programs are there')
      return ask(action)
    case 'yield':
      must(w.current === 'live' && alive(w.next), 'both programs are there')
      w.current = 'yielding'
      return ask('yield')
    case 'rest':
      w.watched = false
      return
    case 'promote':
      must(alive(w.next) && !alive(w.current), 'one program may write')
      Object.assign(w, { current: 'live', next: null, isNew: w.upgrade !== null, driven: true })
      return
    case 'swap-roles':
      must(
        w.next === 'live' && w.current === 'parked' && !alive(w.old),
        'the old program parked, the new one took over',
      )
      Object.assign(w, { old: 'parked', current: 'live', next: null, isNew: true })
      return
    case 'freeze-old':
      must(w.watched, 'the new program is watched while the old one is being frozen')
      must(w.old === 'parked', 'there is an old program')
      w.old = 'frozen'
      return
    case 'begin-trial':
      must(w.current === 'live' && w.isNew, 'a trial is of a new program that may write')
      Object.assign(w, { inTrial: true, watched: true })
      return
    case 'commit':
      must(w.current === 'live' && w.isNew && !w.inTrial, 'what is committed passed its trial')
      return ask('commit')
    case 'finish-commit':
      must(
        event === 'committed' && w.upgrade?.cause === null,
        '`committed` is said when the record is on disk (HANDOVER 2.6)',
      )
      Object.assign(w, { upgrade: null, isNew: false, wanted: true, waits: 'no' })
      return
    case 'bring-back':
      must(
        w.upgrade !== null && w.current === null && w.next === null,
        'what is brought back is known, and nothing else runs',
      )
      if (w.upgrade?.from || w.waits !== 'no') w.wanted = w.startDue = true
      return
    case 'end-upgrade':
      if (w.upgrade === null) return must(event === 'halt' || event === 'unfenced', 'an upgrade ends once')
      must(w.upgrade.cause !== null, 'an upgrade that is not committed has a cause')
      must(w.current !== 'dead' && !alive(w.next), 'the result names no dead program as the running one')
      must(w.current !== 'yielding' && w.current !== 'parked', 'the old program goes on before the receipt is written')
      Object.assign(w, { upgrade: null, isNew: false, inTrial: false, watched: w.watched || w.current !== null })
      return
    case 'hand-back':
      must(w.current === 'live' && w.isNew && alive(w.old), 'a new program gives its state back to an old one')
      return ask('hand-back')
    case 'fill-inbox':
      must(w.hasGivenBack && alive(w.current) && alive(w.old), 'a state was given back')
      w.hasGivenBack = false
      return
    case 'kill-next':
      w.next = null
      if (w.asked !== 'stop' && w.asked !== 'resume' && w.asked !== 'hand-back') w.asked = null
      return
    case 'kill-current':
      if (w.asked === 'hand-back' || w.asked === 'resume' || w.asked === 'stop') w.asked = null
      Object.assign(w, { current: null, isNew: false, inTrial: false, watched: false })
      return
    case 'end-current':
      must(alive(w.current), 'a program is there')
      if (w.asked !== 'stop') w.asked = null
      Object.assign(w, { current: 'ending', watched: false })
      return
    case 'kill-old':
      w.old = null
      return
    case 'resume-current':
      must(w.next === null, 'the candidate is dead before the old program may write (HANDOVER 6.5)')
      must(
        alive(w.current) && w.current !== 'ending',
        'a program that was stopped by force is not resumed (HANDOVER 7.6)',
      )
      Object.assign(w, { current: 'live', watched: true })
      return
    case 'resume-old':
      must(w.current === null && w.old === 'frozen', 'the new program is dead before the old one may write')
      must(!w.hasGivenBack, 'the state that was given back is used (HANDOVER 7.3)')
      Object.assign(w, { current: 'resuming', old: null, watched: true })
      return ask('resume')
    case 'safe-levels':
      Object.assign(w, { driven: false, frozen: true })
      return
    case 'stop-current':
      must(w.current === 'live' || w.current === 'resuming', 'a parked program hears nothing')
      must(w.upgrade === null, 'the upgrade has ended')
      Object.assign(w, { asked: 'stop', watched: false })
      return
    case 'stopped':
      must(nothingRuns(w), 'a stop is confirmed when nothing runs')
      Object.assign(w, { current: null, wanted: false, waits: 'no', startDue: false, stopAsked: false, asked: null })
      return
    case 'stop-failed':
      must(event === 'unfenced', 'a stop fails only where a program cannot be ended')
      w.stopAsked = false
      return
    case 'restart-later':
      must(nothingRuns(w), 'a restart is planned when nothing runs')
      Object.assign(w, { current: null, restartTimer: true })
      return
    case 'cancel-restart':
      w.restartTimer = false
      return
    case 'wait':
      w.waits = 'now'
      return
    case 'go-on':
    case 'back':
      must(w.current === 'live' && w.upgrade === null, 'the committed program is back')
      Object.assign(w, { watched: true, waits: 'no' })
  }
}
