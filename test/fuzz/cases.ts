/**
 * Runs a number of random cases, each from a seed of its own, so that a failure names the one number that repeats it:
 * `npm run fuzz -- --seed N --count 1`.
 */
import { seeded } from '../fixtures/random.ts'

const { MEDULLA_FUZZ_COUNT, MEDULLA_FUZZ_SEED } = process.env
/** Cases of each file, which its kinds share, and the seed of the first one of a kind. */
export const COUNT = Number(MEDULLA_FUZZ_COUNT ?? 20_000)
export const SEED = Number(MEDULLA_FUZZ_SEED ?? 1)
/** ms between two lines of progress */
const PROGRESS_MS = 10_000

export type Random = () => number

/** Calls `run` for each case of one of the `kinds` of a file, and counts its answers. A case that throws ends the test, and names its seed. */
export async function fuzz(
  name: string,
  kinds: number,
  run: (random: Random) => Promise<string> | string,
): Promise<Map<string, number>> {
  const answers = new Map<string, number>()
  const count = Math.ceil(COUNT / kinds)
  let said = Date.now()
  for (let i = 0; i < count; i++) {
    try {
      const answer = await run(seeded(SEED + i))
      answers.set(answer, (answers.get(answer) ?? 0) + 1)
    } catch (error) {
      throw new Error(`${name}: npm run fuzz -- --seed ${SEED + i} --count 1: ${(error as Error).message}`, {
        cause: error,
      })
    }
    if (Date.now() - said < PROGRESS_MS) continue
    said = Date.now()
    process.stderr.write(`fuzz: ${name}: ${i + 1} of ${count}\n`)
  }
  const sorted = [...answers].sort(([, a], [, b]) => b - a).map(([answer, times]) => `${answer} ${times}`)
  process.stderr.write(`fuzz: ${name}: ${count} cases from seed ${SEED}: ${sorted.join(', ')}\n`)
  return answers
}

export const below = (random: Random, limit: number): number => Math.floor(random() * limit)
export const pick = <T>(random: Random, of: readonly T[]): T => of[below(random, of.length)] as T

/** Bytes with one to three faults: flipped, replaced, inserted, removed, repeated or cut. Never the same bytes. */
export function damage(random: Random, bytes: Uint8Array): Buffer {
  let out = Buffer.from(bytes)
  for (let faults = 1 + below(random, 3); faults > 0; faults--) {
    const at = below(random, out.length + 1)
    const length = below(random, 1 + 2 ** below(random, 10))
    const rest = out.subarray(at)
    switch (below(random, 6)) {
      case 0:
        if (at < out.length) out[at] = (out[at] ?? 0) ^ (1 << below(random, 8))
        break
      case 1:
        out.subarray(at, at + length).fill(below(random, 256))
        break
      case 2:
        out = Buffer.concat([out.subarray(0, at), junk(random, length), rest])
        break
      case 3:
        out = Buffer.concat([out.subarray(0, at), rest.subarray(length)])
        break
      case 4:
        out = Buffer.concat([out.subarray(0, at), rest.subarray(0, length), rest])
        break
      default:
        out = Buffer.from(out.subarray(0, at))
    }
  }
  return out.equals(bytes) ? Buffer.concat([out, Buffer.of(0)]) : out
}

export function junk(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => below(random, 256)))
}

/** Values at the borders of what a field of JSON may be. */
const ODD = [
  ...[null, true, false, 0, -0, -1, 0.5, 2 ** 31, 2 ** 53 - 1, 2 ** 53, -(2 ** 53), 1e308],
  ...['', ' ', '\0', '..', '/', '\\', 'a'.repeat(5000), '\u202e', '\ud800', 'é', 'e\u0301', '__proto__', 'NaN'],
  ...[[], {}, [[]], [null], { length: 1 }, Array.from({ length: 3000 }, () => 0)],
]

/** The text of a JSON document in which one value, name or token is another one. It may be the same as before. */
export function damageJson(random: Random, text: string): string {
  const document = JSON.parse(text) as unknown
  // the spaces that reserve room in a release (BUNDLE 6.7)
  const end = text.slice(text.trimEnd().length)
  const places: [holder: Record<string, unknown>, key: string][] = []
  const walk = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    for (const key of Object.keys(value)) {
      places.push([value as Record<string, unknown>, key])
      walk((value as Record<string, unknown>)[key])
    }
  }
  walk(document)
  const [holder, key] = pick(random, places)
  const [other, otherKey] = pick(random, places)
  switch (below(random, 7)) {
    case 0:
      holder[key] = pick(random, ODD)
      break
    case 1:
      delete holder[key]
      break
    case 2:
      holder[pick(random, ['extra', '__proto__', 'constructor', key.toUpperCase(), `${key} `])] = holder[key]
      break
    case 3:
      holder[key] = structuredClone(other[otherKey])
      break
    case 4: {
      // the same name twice, which JSON.parse forgives
      const once = JSON.stringify({ [key]: holder[key] }).slice(1, -1)
      return text.replace('{', `{${once},`)
    }
    case 5:
      return text.replace(/[:,]/, (token) => `${token}${pick(random, [' ', '\t', '\n', '\u00a0', '/**/'])}`)
    default: {
      const at = below(random, text.length)
      return `${text.slice(0, at)}${pick(random, ['{', '}', '"', ',', '\\', '\u0000', '9', ''])}${text.slice(at + 1)}`
    }
  }
  return JSON.stringify(document) + end
}
