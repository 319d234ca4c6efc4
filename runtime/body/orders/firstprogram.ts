/** Starts the program that came with the card, on a robot that never had a program (BUNDLE 19). */
import { existsSync } from 'node:fs'
import { DEFAULT_SLOT, type PushEvent } from '../../../deploy/shared/api.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { Note } from '../../start.ts'
import { dropFirstProgram, firstProgramFile } from '../../store/firstprogram.ts'
import type { Body } from '../body.ts'
import type { Installer } from './installer.ts'

/** Refusals of the present moment: the next start of the robot tries again. */
const FOR_NOW: ReadonlySet<string> = new Set(['estopped', 'minimal', 'in-progress'])

/** Null: there is none to start. The function never rejects; it resolves when the program runs, or was given up. */
export function firstProgram(body: Body, installer: Installer, note: Note): (() => Promise<void>) | null {
  const { home, slots } = body
  if (!existsSync(firstProgramFile(home))) return null
  if (slots.names().length === 0) return () => start(body, installer, note)
  note('info', 'the program on the card is not started: this robot has had a program since')
  return () => drop(body, note)
}

async function start(body: Body, installer: Installer, note: Note): Promise<void> {
  const { log } = body.slot(DEFAULT_SLOT)
  try {
    let result: Extract<PushEvent, { event: 'result' }> | null = null
    await installer.first(firstProgramFile(body.home), (event) => {
      if (event.event === 'result') result = event
    })
    if (result === null) return
    const { outcome, message } = result as Extract<PushEvent, { event: 'result' }>
    log.add('runtime', `the program of the card: ${message}`, 0, outcome === 'committed' ? 'info' : 'error')
  } catch (error) {
    const { code = 'internal', message } = error as Refusal
    log.add('runtime', `the program of the card is not started: ${message}`, 0, 'error')
    if (error instanceof Refusal && FOR_NOW.has(code)) return
  }
  await drop(body, note)
}

async function drop({ home }: Body, note: Note): Promise<void> {
  await dropFirstProgram(home).catch((error: unknown) => note('warn', String(error)))
}
