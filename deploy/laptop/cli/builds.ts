/** Reads the statements of builders that `medulla rebuild --sign` has written. */
import { readFile } from 'node:fs/promises'
import type { SignedBuild } from '../../shared/bundle/buildstatement.ts'
import { LIMITS } from '../../shared/bundle/limits.ts'
import { Refusal } from '../../shared/errors.ts'

/** Verifies each statement, so that a damaged file is refused before anything is sent. */
export async function readBuilds(files: readonly string[] = []): Promise<SignedBuild[]> {
  if (files.length === 0) return []
  const { verifyBuild } = await import('../../shared/bundle/buildstatement.ts')
  return Promise.all(
    files.map(async (file) => {
      const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
        throw new Refusal('usage', `cannot read ${file}: ${cause.code}`, undefined, { cause })
      })
      const signed = parse(text)
      if (signed === null)
        throw new Refusal('usage', `${file} is no statement of a builder`, 'medulla rebuild --sign FILE')
      verifyBuild(signed)
      return signed
    }),
  )
}

function parse(text: string): SignedBuild | null {
  if (text.length > 2 * (LIMITS.buildStatement + LIMITS.signature)) return null
  try {
    const { statement, sig } = JSON.parse(text) as Record<string, unknown>
    return typeof statement === 'string' && typeof sig === 'string' ? { statement, sig } : null
  } catch {
    return null
  }
}
