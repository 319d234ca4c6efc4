/**
 * The public test vectors of the age format (C2SP CCTV, folder age/testdata), where they are present: one fault a file. They are in
 * the folder that MEDULLA_AGE_VECTORS names, or in one that may lie beside the project.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inflateSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { openSealed } from '../../../../deploy/shared/bundle/seal.ts'
import { Refusal } from '../../../../deploy/shared/errors.ts'

const beside = fileURLToPath(new URL('../../../../../shared/vectors/age/', import.meta.url))
const folder = process.env.MEDULLA_AGE_VECTORS ?? beside
const names = existsSync(folder) ? readdirSync(folder).sort() : []
const absent = names.length === 0 ? ' (skipped: MEDULLA_AGE_VECTORS names no folder with vectors)' : ''

interface Vector {
  name: string
  /** The values of each key, in order. */
  about: Map<string, string[]>
  bytes: Buffer
}

function readVector(name: string): Vector {
  const all = readFileSync(join(folder, name))
  const end = all.indexOf('\n\n')
  const about = new Map<string, string[]>()
  for (const line of all.subarray(0, end).toString('utf8').split('\n')) {
    const [key = '', value = ''] = [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)]
    about.set(key, [...(about.get(key) ?? []), value])
  }
  const bytes = all.subarray(end + 2)
  return { name, about, bytes: about.has('compressed') ? inflateSync(bytes) : bytes }
}

/** What a bundle does not offer (BUNDLE 8.1, 8.2); null: the vector is about what it does. */
function notOffered({ about, bytes }: Vector): string | null {
  if (about.has('armored')) return 'armor'
  if (about.has('passphrase')) return 'passphrase'
  const header = bytes.subarray(0, bytes.indexOf('\n--- ')).toString('latin1')
  const types = [...header.matchAll(/^-> (\S+)/gm)].map(([, type = '']) => type)
  return types.find((type) => type !== 'X25519') === undefined ? null : 'another recipient type'
}

const REFUSALS: Readonly<Record<string, readonly string[]>> = {
  'no match': ['wrong-robot'],
  'HMAC failure': ['bad-bundle'],
  'header failure': ['bad-bundle', 'unknown-format', 'truncated'],
  'payload failure': ['bad-bundle', 'truncated'],
}

async function opened({ about, bytes }: Vector): Promise<string> {
  try {
    return createHash('sha256')
      .update(await openSealed(bytes, about.get('identity') ?? []))
      .digest('hex')
  } catch (error) {
    if (error instanceof Refusal) return error.code
    throw error
  }
}

test.skipIf(absent !== '')(
  `BUNDLE 1.5, 8.1: every public vector of age is opened, or refused for its fault${absent}`,
  async () => {
    const counts = new Map<string, number>()
    const count = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1)
    for (const vector of names.map(readVector)) {
      const [expected = ''] = vector.about.get('expect') ?? []
      const without = notOffered(vector)
      const got = await opened(vector)
      if (without !== null) {
        // A file that is not offered is not opened, whatever its fault is.
        expect(['unknown-format', 'bad-bundle'], vector.name).toContain(got)
        count(`refused, because it has ${without}`)
      } else if (expected === 'success') {
        expect(got, vector.name).toBe(vector.about.get('payload')?.[0])
        count('opened')
      } else {
        expect(REFUSALS[expected], `${vector.name}: ${expected}`).toContain(got)
        count(`refused, for a ${expected}`)
      }
    }
    const parts = [...counts].map(([what, n]) => `${n} ${what}`)
    process.stdout.write(`age vectors: ${names.length} files: ${parts.join('; ')}\n`)
  },
)
