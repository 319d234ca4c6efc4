/**
 * The config values of the robot. Invariant: a value goes from the sealed order to a file of the home, and to programs whose
 * signed manifest names it; no receipt, log line, status or error holds one (HANDOVER 15; test/e2e/config.test.ts).
 */
import { type ConfigInfo, type ConfigReport, DEFAULT_SLOT, type SignedConfigKey } from '../../../deploy/shared/api.ts'
import { LIMITS } from '../../../deploy/shared/bundle/limits.ts'
import { unset } from '../../../deploy/shared/bundle/policy.ts'
import { signConfigKey } from '../../../deploy/shared/configvalue.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { Bundles } from '../../store/bundles.ts'
import type { ConfigFile } from '../../store/config.ts'
import type { Home } from '../../store/home.ts'
import type { Operator } from '../../store/operators.ts'
import type { Slots } from '../../store/slots.ts'
import type { AgeKey, BundleVerifier } from '../../store/verifier.ts'
import type { ReceiptEntry } from '../slot/entries.ts'
import { plainEntry } from '../slot/entries.ts'
import type { Slot } from '../slot/slot.ts'
import { Bucket } from './receiptlimit.ts'

/** Limit of changes, because each has a receipt (HANDOVER 15.6). */
const CHANGES = { burst: 64, perMinute: 6 }

type Key = AgeKey & { signed: SignedConfigKey }
type Use = ConfigInfo['uses'][number] & { config: readonly string[] }

/** What RobotConfig needs of the body. */
interface Parts {
  readonly all: readonly Slot[]
  readonly bundles: Bundles
  readonly verifier: BundleVerifier
  readonly home: Home
  readonly slots: Slots
  nameOf(fingerprint: string): string
  readonly ledger: { record(entry: ReceiptEntry): Promise<unknown> }
}

export class RobotConfig {
  readonly #file: ConfigFile
  readonly #robot: Parts
  /** Made at the first use, and in memory only: a value sealed to it cannot be opened after this process has ended. */
  #key: Promise<Key> | null = null
  readonly #changes = new Bucket(CHANGES, () => performance.now())

  constructor(file: ConfigFile, robot: Parts) {
    this.#file = file
    this.#robot = robot
  }

  /** For the log and `status`: the file was damaged, and its values are gone. */
  get problems(): readonly string[] {
    return this.#file.problems
  }

  /** The names of the values that are set. */
  get names(): ReadonlySet<string> {
    return new Set(this.#file.values.keys())
  }

  /** The values of these names only (HANDOVER 15.2). Throws Refusal `missing-config`. */
  valuesOf(names: readonly string[]): Record<string, string> {
    const { values } = this.#file
    const refusal = unset(names, this.names)
    if (refusal !== null) throw refusal
    return Object.fromEntries(names.map((name) => [name, values.get(name)?.value ?? '']))
  }

  /** Throws Refusal `missing-config` when the program that the slot would start needs a value that is not set (HANDOVER 15.3). */
  async admit(slot: string): Promise<void> {
    const use = (await this.#uses()).find((each) => each.slot === slot)
    const refusal = use === undefined || use.runs ? null : unset(use.config, this.names)
    if (refusal !== null) throw refusal
  }

  async report(): Promise<ConfigReport> {
    const [{ signed }, values] = await Promise.all([this.#ageKey(), this.#infos()])
    return { key: signed, values }
  }

  /** Resolves when the value is on disk. Throws Refusal. */
  async set(name: string, sealed: string, by: Operator): Promise<ConfigInfo> {
    this.#count()
    const { identity } = await this.#ageKey()
    const value = await this.#robot.verifier.openConfig(sealed, identity)
    const entry = { value, time: new Date().toISOString(), by: by.fingerprint }
    await this.#file.change((values) => {
      if (!values.has(name) && values.size >= LIMITS.configValues) {
        const message = `this robot keeps ${LIMITS.configValues} config values already`
        throw new Refusal('too-large', message, 'remove one with: medulla config unset NAME')
      }
      values.set(name, entry)
    })
    return this.#changed(name, 'set', by)
  }

  /** Throws Refusal `not-found` when the value is not set. */
  async unset(name: string, by: Operator): Promise<ConfigInfo> {
    this.#count()
    await this.#file.change((values) => {
      if (values.delete(name)) return
      throw new Refusal('not-found', `${name} is not set on this robot`, 'medulla config')
    })
    return this.#changed(name, 'unset', by)
  }

  #count(): void {
    if (this.#changes.tokens < 1) {
      throw new Refusal('in-progress', 'too many changes of config values', 'try again in a minute')
    }
    this.#changes.take()
  }

  async #changed(name: string, how: 'set' | 'unset', by: Operator): Promise<ConfigInfo> {
    const reason = `config ${name}: ${how}`
    await this.#robot.ledger.record(plainEntry('all', 'changed', 0, { reason, pusher: by.fingerprint }))
    const info = this.#info(name, await this.#uses())
    const slots = info.uses.length === 0 ? [DEFAULT_SLOT] : info.uses.map(({ slot }) => slot)
    for (const slot of this.#robot.all) {
      if (slots.includes(slot.name)) slot.log.add('runtime', `${reason} by ${by.name}`, 0, 'info')
    }
    return info
  }

  /** The values that are set, and those that a program needs. */
  async #infos(): Promise<ConfigInfo[]> {
    const uses = await this.#uses()
    const names = new Set([...this.#file.values.keys(), ...uses.flatMap(({ config }) => config)])
    return [...names].sort().map((name) => this.#info(name, uses))
  }

  #info(name: string, uses: readonly Use[]): ConfigInfo {
    const { time, by } = this.#file.values.get(name) ?? { time: null, by: null }
    return {
      name,
      time,
      by: by === null ? null : this.#robot.nameOf(by),
      uses: uses.filter(({ config }) => config.includes(name)).map(({ config: _, ...use }) => use),
    }
  }

  /** For each slot, the program that runs or would be started, if it needs config values. */
  async #uses(): Promise<Use[]> {
    const { all, bundles, slots } = this.#robot
    const found = await Promise.all(
      all.map(async ({ name: slot, runs }): Promise<Use[]> => {
        const digest = runs?.digest ?? slots.get(slot).current
        // A damaged bundle cannot be started, so it needs nothing.
        const record = digest === null ? null : await bundles.record(digest).catch(() => null)
        const manifest = runs?.manifest ?? record?.manifest
        if (manifest?.config === undefined) return []
        const { program, version, config } = manifest
        return [{ slot, program, version, runs: runs !== null, config }]
      }),
    )
    return found.flat()
  }

  #ageKey(): Promise<Key> {
    this.#key ??= this.#makeKey()
    return this.#key
  }

  async #makeKey(): Promise<Key> {
    const { verifier, home } = this.#robot
    try {
      const made = await verifier.ageKey()
      return { ...made, signed: await signConfigKey(made.recipient, home.signer) }
    } catch (error) {
      this.#key = null
      throw error
    }
  }
}
