/** The file of the program that a robot starts first: put into its home from its card, removed after its start (BUNDLE 19). */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { writeAtomic } from './atomic.ts'
import type { HomeDir } from './operators.ts'

export const firstProgramFile = ({ dir }: HomeDir): string => join(dir, 'first-program.tar')

export async function putFirstProgram(home: HomeDir, bytes: Uint8Array): Promise<void> {
  await writeAtomic(firstProgramFile(home), bytes)
}

export async function dropFirstProgram(home: HomeDir): Promise<void> {
  await rm(firstProgramFile(home), { force: true })
}
