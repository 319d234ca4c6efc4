/** The file of the program that a robot starts first: put into its home from its card, removed after its start (BUNDLE 19). */
import { appendFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { syncDir, writeAtomic } from './atomic.ts'
import type { HomeDir } from './operators.ts'

export const firstProgramFile = ({ dir }: HomeDir): string => join(dir, 'first-program.tar')

/** One byte for each time that the program was launched. */
const startsFile = ({ dir }: HomeDir): string => join(dir, 'first-program.starts')

/** Launches of which none came to an end. */
export const MAX_FIRST_STARTS = 3

/** @returns how often the program was launched, with this time; durable */
export async function countFirstStart(home: HomeDir): Promise<number> {
  const file = startsFile(home)
  await appendFile(file, '.', { mode: 0o600, flush: true })
  await syncDir(home.dir)
  return (await stat(file)).size
}

/** A launch has come to an end. */
export async function forgetFirstStarts(home: HomeDir): Promise<void> {
  await rm(startsFile(home), { force: true })
}

export async function putFirstProgram(home: HomeDir, bytes: Uint8Array): Promise<void> {
  await forgetFirstStarts(home)
  await writeAtomic(firstProgramFile(home), bytes)
}

export async function dropFirstProgram(home: HomeDir): Promise<void> {
  await rm(firstProgramFile(home), { force: true })
  await forgetFirstStarts(home)
}
