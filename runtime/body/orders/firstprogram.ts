/** Starts the program that came with the card, on a robot that never had a program (BUNDLE 19). */
import { existsSync } from 'node:fs'
import { DEFAULT_SLOT, type PushEvent } from '../../../deploy/shared/api.ts'
import { hintOf, Refusal } from '../../../deploy/shared/errors.ts'
import type { Note } from '../../start.ts'
import {
  countFirstStart,
  dropFirstProgram,
  firstProgramFile,
  forgetFirstStarts,
  MAX_FIRST_STARTS,
} from '../../store/firstprogram.ts'
import type { Body } from '../body.ts'
import type { Installer } from './installer.ts'

type Result = Extract<PushEvent, { event: 'result' }>

/** Refusals that say nothing about the program: the next start of the robot tries again. */
const FOR_NOW: ReadonlySet<string> = new Set(['estopped', 'minimal', 'in-progress', 'unconfined', 'body-away'])
const LATER = 'the next start of the robot tries it again'
const AGAIN = 'when that is mended: medulla push FOLDER'

/** Null: there is none to start. The function never rejects; it resolves when the program runs, or was given up. */
export function firstProgram(body: Body, installer: Installer, note: Note): (() => Promise<void>) | null {
  const { home, slots } = body
  if (!existsSync(firstProgramFile(home))) return null
  if (slots.names().length === 0) return () => start(body, installer, note)
  note('info', 'the program on the card is not started: this robot has had a program since')
  return () => forget(dropFirstProgram, body, note)
}

async function start(body: Body, installer: Installer, note: Note): Promise<void> {
  const { log } = body.slot(DEFAULT_SLOT)
  // With the hint that a push would print: nobody waits for an answer here.
  const failed = (text: string, hint: string | undefined, isLater: boolean) => {
    const then = isLater ? LATER : hint?.includes('medulla push') ? undefined : AGAIN
    log.add('runtime', [`the program of the card${text}`, hint, then].filter(Boolean).join('; '), 0, 'error')
  }
  let isLater = false
  try {
    let result: Result | null = null
    const launching = () => beforeLaunch(body)
    await installer.first(firstProgramFile(body.home), launching, (event) => {
      if (event.event === 'result') result = event
    })
    if (result === null) return
    const { outcome, message, hint } = result as Result
    // An emergency stop before the launch ends the upgrade with another code: the latch counts.
    isLater = outcome === 'called-off' && body.emergency.refusal() !== null
    if (outcome === 'committed') log.add('runtime', `the program of the card: ${message}`, 0, 'info')
    else failed(`: ${message}`, hint, isLater)
  } catch (error) {
    const { code, message, hint } = error as Refusal
    // Any other error is one of the disk, not of the program.
    isLater = !(error instanceof Refusal) || FOR_NOW.has(code)
    failed(` is not started: ${message}`, hintOf({ code, hint }), isLater)
  }
  await forget(isLater ? forgetFirstStarts : dropFirstProgram, body, note)
}

/** A program that takes the power from its robot, as a motor can, would be started again at each of its starts for ever. */
async function beforeLaunch({ home }: Body): Promise<void> {
  if ((await countFirstStart(home)) <= MAX_FIRST_STARTS) return
  const message = `the robot went off ${MAX_FIRST_STARTS} times before the program's trial was over`
  throw new Refusal('tried-before', message, 'medulla push FOLDER')
}

async function forget(what: typeof dropFirstProgram, { home }: Body, note: Note): Promise<void> {
  await what(home).catch((error: unknown) => note('warn', String(error)))
}
