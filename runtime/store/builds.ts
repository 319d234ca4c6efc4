/**
 * The statements of builders that a robot keeps. Invariant: a statement counts only if a builder whom the board file names signed it,
 * at each look (BUNDLE 17; test/runtime/store/builds.test.ts).
 */
import { join } from 'node:path'
import { type SignedBuild, verifyBuild } from '../../deploy/shared/bundle/buildstatement.ts'
import type { Release } from '../../deploy/shared/bundle/release.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { writeAtomic } from './atomic.ts'
import { readOrNote } from './memory.ts'
import { encodeRecord } from './record.ts'

/** Statements that are kept; one more removes the oldest. */
const MAX_BUILDS = 256

/** How many of which builders must have signed what a robot runs. */
export interface Reproduction {
  readonly count: number
  /** `ssh-ed25519 …` lines */
  readonly builders: readonly string[]
}

interface BuildsRecord {
  format: 'medulla-builds/1'
  builds: SignedBuild[]
}
type Known = SignedBuild & ReturnType<typeof verifyBuild>

export class Builds {
  readonly #path: string
  readonly #policy: Reproduction | null
  #known: readonly Known[]
  #last: Promise<unknown> = Promise.resolve()
  readonly problems: readonly string[]
  /** Whether an owner has revoked the key with this fingerprint (HANDOVER 19.2): then its statements do not count. */
  isRevoked: (fingerprint: string) => boolean = () => false

  private constructor(path: string, policy: Reproduction | null, known: readonly Known[], problems: readonly string[]) {
    this.#path = path
    this.#policy = policy
    this.#known = known
    this.problems = problems
  }

  /** `policy` null: the board file asks for no builders. */
  static async open(home: string, policy: Reproduction | null): Promise<Builds> {
    const path = join(home, 'builds.json')
    const problems: string[] = []
    const found = await readOrNote<BuildsRecord>(path, 'medulla-builds/1', problems)
    const known = (found?.builds ?? []).flatMap((signed): Known[] => {
      try {
        return [{ ...signed, ...verifyBuild(signed) }]
      } catch {
        return []
      }
    })
    return new Builds(path, policy, known, problems)
  }

  /** On disk when it resolves. Throws Refusal for a signer whom the board file does not name. */
  add(signed: SignedBuild): Promise<Known> {
    const done = this.#last.then(async () => {
      if (this.#policy === null) {
        const hint = 'write "requireReproduced" into the board file, or leave the statement away'
        throw new Refusal('unsupported', 'the board file of this robot asks for no statements of builders', hint)
      }
      const build = { ...signed, ...verifyBuild(signed) }
      if (!this.#policy.builders.includes(build.builder)) {
        const message = `the statement is signed by ${build.fingerprint}, who is no builder of this robot`
        throw new Refusal('unknown-operator', message, 'name the builder in "requireReproduced" of the board file')
      }
      if (this.isRevoked(build.fingerprint)) {
        const hint = 'the builder makes another key, and the board file names that one'
        throw new Refusal('revoked-key', `the builder's key ${build.fingerprint} was revoked on this robot`, hint)
      }
      const others = this.#known.filter(({ builder, statement }) => {
        return builder !== build.builder || statement !== build.statement
      })
      const next = [...others, build].slice(-MAX_BUILDS)
      const builds = next.map(({ statement, sig }) => ({ statement, sig }))
      const record: BuildsRecord = { format: 'medulla-builds/1', builds }
      await writeAtomic(this.#path, encodeRecord(record), 0o644)
      this.#known = next
      return build
    })
    this.#last = done.catch(() => {})
    return done
  }

  /** A refusal for what too few builders have signed; null also where the board file asks for none. */
  refusal({ program, version, h1 }: Pick<Release, 'program' | 'version' | 'h1'>): Refusal | null {
    if (this.#policy === null) return null
    const { count, builders } = this.#policy
    const signed = new Set(
      this.#known
        .filter((each) => each.h1 === h1 && each.program === program && each.version === version)
        .filter((each) => !this.isRevoked(each.fingerprint))
        .map(({ builder }) => builder),
    )
    const found = builders.filter((builder) => signed.has(builder)).length
    if (found >= count) return null
    return new Refusal(
      'not-reproduced',
      `${program} ${version} is signed by ${found} of the ${count} builders that this robot asks for: ${h1}`,
      'on the computer of each builder: medulla rebuild FILE --source DIR --sign BUILD.json; then: medulla push FILE --builds BUILD.json',
    )
  }
}
