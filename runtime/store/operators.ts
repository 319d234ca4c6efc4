/**
 * Invariant: an operator is a key that is listed in `allowed_signers` and has a role in `roles.json`; a list that is not empty
 * has an owner (test/runtime/store/operators.test.ts).
 *
 * `allowed_signers` has the format of OpenSSH (`ssh-keygen -Y verify -f` reads it). A key in only one of the two files has no
 * rights, so a kill between the two writes gives nobody new ones. A key that list.json calls revoked has no rights either. A line with features of OpenSSH that this file does not
 * support (patterns, validity dates, authorities) is refused, not skipped.
 */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import type { OperatorInfo, PeerRole, Role, Wish } from '../../deploy/shared/api.ts'
import { OPERATOR_NAME, ROLE_RANK } from '../../deploy/shared/api.ts'
import type { SignedCertificate } from '../../deploy/shared/cert.ts'
import { verifyCertificate } from '../../deploy/shared/cert.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { fingerprint, publicKeyLine } from '../../deploy/shared/keys.ts'
import { RECOVERY_NAME } from '../../deploy/shared/recoverykey.ts'
import { recoverDir, writeAtomic } from './atomic.ts'
import { type ListState, MAX_REVOKED, NO_STATE, readListState, writeListState } from './liststate.ts'
import { takeLock } from './lock.ts'
import { isMissing } from './record.ts'

export interface Operator {
  /** `ssh-ed25519 AAAA…` or `sk-ssh-ed25519@openssh.com AAAA…`, without a comment. */
  readonly publicKey: string
  readonly fingerprint: string
  readonly role: Role
  readonly name: string
  /** The X25519 key in base64, if the operator was added by certificate. */
  readonly noise?: string
  readonly namespaces: readonly string[]
}
export interface PeerIdentity {
  fingerprint: string
  role: PeerRole
  name: string
}
export type HomeDir = { readonly dir: string }

const LINE =
  /^([^\s#]+) namespaces="([^"\s]+)" ((?:ssh-ed25519|sk-ssh-ed25519@openssh\.com) [A-Za-z0-9+/]+={0,2})(?: .*)?$/
export const NAMESPACES: Readonly<Record<Role, readonly string[]>> = {
  owner: ['release@medulla', 'order@medulla', 'cert@medulla'],
  operator: ['release@medulla', 'order@medulla', 'cert@medulla'],
  observer: ['cert@medulla'],
}

const Roles = z.record(
  z.string().regex(/^SHA256:[A-Za-z0-9+/]{43}$/),
  z.strictObject({
    role: z.enum(['owner', 'operator', 'observer']),
    name: z.string().regex(OPERATOR_NAME),
    noise: z.string().max(64).optional(),
  }),
)

export class Operators {
  readonly #byFingerprint: ReadonlyMap<string, Operator>
  readonly state: ListState

  constructor(list: readonly Operator[], state: ListState = NO_STATE) {
    const revoked = new Set(state.revoked.map(({ key }) => key))
    // A revoked key has no rights, whoever wrote it into the list again (HANDOVER 19.2).
    const present = list.filter(({ fingerprint }) => !revoked.has(fingerprint))
    this.#byFingerprint = new Map(present.map((one) => [one.fingerprint, one]))
    // Nor has a revoked recovery key: its paper may be in the wrong hands.
    const { recovery } = state
    this.state = recovery !== null && revoked.has(fingerprint(recovery.key)) ? { ...state, recovery: null } : state
  }

  /** Whether an owner has revoked the key with this fingerprint: it gets no rights again (HANDOVER 19.2). */
  isRevoked(id: string): boolean {
    return this.state.revoked.some(({ key }) => key === id)
  }

  all(): Operator[] {
    return [...this.#byFingerprint.values()]
  }

  byFingerprint(id: string): Operator | null {
    return this.#byFingerprint.get(id) ?? null
  }

  /** The keys that may sign under `namespace`: of operators and owners who are listed for it. */
  signers(namespace = 'release@medulla'): Set<string> {
    const may = this.all().filter(
      (one) => ROLE_RANK[one.role] >= ROLE_RANK.operator && one.namespaces.includes(namespace),
    )
    return new Set(may.map((one) => one.publicKey))
  }

  /** In the order of `allowed_signers`. */
  report(): OperatorInfo[] {
    return this.all().map(({ name, role, fingerprint }) => ({ name, role, fingerprint }))
  }

  /** The operator of this certificate and this channel key, which the peer has proven to hold. Null when there is none. */
  who(cert: SignedCertificate, noise: string): PeerIdentity | null {
    let checked: ReturnType<typeof verifyCertificate>
    try {
      checked = verifyCertificate(cert)
    } catch (error) {
      if (error instanceof Refusal) return null
      throw error
    }
    if (checked.subject !== 'operator' || checked.noise !== noise) return null
    if (checked.key === this.state.recovery?.key) {
      return { fingerprint: checked.id, role: 'recovery', name: RECOVERY_NAME }
    }
    const one = this.byFingerprint(checked.id)
    if (one === null || !one.namespaces.includes('cert@medulla')) return null
    return { fingerprint: one.fingerprint, role: one.role, name: one.name }
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return ''
    throw error
  }
}

function paths(home: HomeDir): { signers: string; roles: string } {
  return { signers: join(home.dir, 'operators', 'allowed_signers'), roles: join(home.dir, 'operators', 'roles.json') }
}

/** Reads both files. Throws Refusal `usage`, which names the line that is wrong. */
export async function loadOperators(home: HomeDir): Promise<Operators> {
  const at = paths(home)
  const roles = parseRoles(await readText(at.roles), at.roles)
  const list: Operator[] = []
  const seen = new Set<string>()
  for (const [index, line] of (await readText(at.signers)).split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const [, principal, namespaces, publicKey] = LINE.exec(line.trim()) ?? []
    if (principal === undefined || namespaces === undefined || publicKey === undefined || /[*?!,]/.test(principal)) {
      throw new Refusal('usage', `${at.signers} line ${index + 1}: expected 'name namespaces="…" ssh-ed25519 key'`)
    }
    const id = fingerprint(publicKeyLine(publicKey))
    if (seen.has(id)) throw new Refusal('usage', `${at.signers} line ${index + 1}: ${id} is listed twice`)
    seen.add(id)
    const entry = roles[id]
    if (entry === undefined) continue
    const { noise, ...rest } = entry
    list.push({
      publicKey,
      fingerprint: id,
      ...rest,
      ...(noise === undefined ? {} : { noise }),
      namespaces: namespaces.split(','),
    })
  }
  return new Operators(list, await readListState(join(home.dir, 'operators')))
}

function parseRoles(text: string, path: string): z.infer<typeof Roles> {
  if (text.trim() === '') return {}
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new Refusal('usage', `${path} is not JSON`, undefined, { cause })
  }
  const parsed = Roles.safeParse(value)
  if (parsed.success) return parsed.data
  throw new Refusal(
    'usage',
    `${path}: ${parsed.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`).join('; ')}`,
  )
}

/**
 * Adds an operator, or changes one. Without `role`, the first one is an owner, and later ones are operators; a known one keeps
 * the role and the name that are not given. Throws Refusal `role` when no owner would be left, and `bad-signature` and others
 * for a bad certificate.
 */
export async function addOperator(
  home: HomeDir,
  card: SignedCertificate | string,
  role?: Role,
  name?: string,
  counter?: number,
): Promise<Operator> {
  return change(home, counter, (list, state) => {
    const made = typeof card === 'string' ? fromLine(card) : fromCard(card)
    const id = fingerprint(made.publicKey)
    refuseRevoked(state, id)
    const before = list.find((other) => other.fingerprint === id)
    const given = role ?? before?.role ?? (list.length === 0 ? 'owner' : 'operator')
    const called = nameFor(id, name ?? before?.name ?? made.name, list)
    const one: Operator = {
      publicKey: made.publicKey,
      fingerprint: id,
      role: given,
      name: called,
      ...(made.noise === undefined ? {} : { noise: made.noise }),
      namespaces: NAMESPACES[given],
    }
    return { list: [...list.filter((other) => other.fingerprint !== one.fingerprint), one], result: one }
  })
}

/** Throws Refusal `not-found`, or `role` when no owner would be left. */
function changeRole(home: HomeDir, id: string, role: Role, counter?: number): Promise<Operator> {
  return change(home, counter, (list) => {
    const result = { ...known(list, id), role, namespaces: NAMESPACES[role] }
    return { list: list.map((one) => (one.fingerprint === id ? result : one)), result }
  })
}

/** Logs, receipts and `ssh-keygen -I` identify operators by name, so each has a unique one. */
export function nameFor(id: string, name: string | undefined, list: readonly Operator[]): string {
  if (name === undefined) throw new Refusal('usage', `the key ${id} has no name`, 'name its owner: --name NAME')
  if (!OPERATOR_NAME.test(name)) {
    const message = `operator name '${name}' does not match ${OPERATOR_NAME.source}`
    throw new Refusal('usage', message, 'choose another one: --name NAME')
  }
  const same = (other: Operator) => other.name.toLowerCase() === name.toLowerCase()
  const other = list.find((each) => each.fingerprint !== id && same(each))
  if (other === undefined) return name
  throw new Refusal(
    'usage',
    `'${name}' is the name of another operator, ${other.fingerprint}`,
    'choose another one: --name NAME',
  )
}

/** Throws Refusal `not-found`, or `role` for the last owner. */
export async function removeOperator(home: HomeDir, id: string, counter?: number): Promise<Operator> {
  return change(home, counter, (list) => {
    const result = known(list, id)
    return { list: list.filter((one) => one !== result), result }
  })
}

export function known(list: readonly Operator[], id: string): Operator {
  const found = list.find((one) => one.fingerprint === id)
  if (found === undefined) throw new Refusal('not-found', `no operator has the fingerprint ${id}`, 'medulla operators')
  return found
}

export type OperatorOrder = Extract<Wish, { order: 'add-operator' | 'change-role' | 'remove-operator' }>

/** Carries out an owner's order (HANDOVER 8.12). Returns the operator it changed or removed. */
export function changeOperators(home: HomeDir, order: OperatorOrder): Promise<Operator> {
  const { list: counter } = order
  if (order.order === 'remove-operator') return removeOperator(home, order.operator, counter)
  if (order.order === 'change-role') return changeRole(home, order.operator, order.role, counter)
  const who = order.card ?? order.key
  if (who === null) throw new Refusal('usage', 'expected a card or a key')
  return addOperator(home, who, order.role ?? undefined, order.name ?? undefined, counter)
}

export function refuseRevoked({ revoked }: ListState, id: string): void {
  if (revoked.every(({ key }) => key !== id)) return
  throw new Refusal('revoked-key', `${id} was revoked on this robot, and is never let in again`)
}

interface Change<T> {
  list: Operator[]
  /** Fingerprints of keys that are never let in again. */
  revoke?: readonly string[]
  /** The public half of the next recovery key. */
  recovery?: string
  result: T
}

/** `counter` is that of the list which the person who ordered the change has seen; undefined: any. */
export async function change<T>(
  home: HomeDir,
  counter: number | undefined,
  step: (list: Operator[], state: ListState) => Change<T>,
): Promise<T> {
  await mkdir(join(home.dir, 'operators'), { recursive: true, mode: 0o700 })
  // `medulla trust` may run beside the runtime: without the lock, one of two changes could be lost.
  const lock = await takeLock(join(home.dir, 'operators', 'lock'), 'the list of operators')
  try {
    await recoverDir(join(home.dir, 'operators'))
    const loaded = await loadOperators(home)
    const before = loaded.all()
    const { state } = loaded
    // An order that was signed for an earlier list does not count (HANDOVER 19.1).
    if (counter !== undefined && counter !== state.counter) {
      const message = `the list of operators has changed since the order was signed: change ${state.counter}, not ${counter}`
      throw new Refusal('stale-order', message, 'look at the list, then give the order again: medulla operators')
    }
    const { list, revoke = [], recovery, result } = step(before, state)
    if (state.revoked.length + revoke.length > MAX_REVOKED) {
      throw new Refusal('too-large', `this robot remembers at most ${MAX_REVOKED} revoked keys`)
    }
    if (!list.some((one) => one.role === 'owner')) {
      throw new Refusal(
        'role',
        'the list of operators would have no owner left',
        'add another owner first: medulla operators add CARD --role owner',
      )
    }
    // A recovery key signs nothing but recoveries (HANDOVER 19.4): an operator with this key would lose all rights.
    const recoveryKey = recovery ?? state.recovery?.key
    if (list.some(({ publicKey }) => publicKey === recoveryKey)) {
      throw new Refusal('usage', 'the recovery key cannot be the key of an operator, too', 'medulla recover --new')
    }
    if (recovery !== undefined) refuseRevoked(nextState(state, revoke, undefined), fingerprint(recovery))
    const at = paths(home)
    const lines = list.map((one) => `${one.name} namespaces="${one.namespaces.join(',')}" ${one.publicKey}\n`)
    // While allowed_signers is replaced, roles.json has the keys of both lists: nobody has more rights than before or after, and
    // an owner who gets another key is in one of the two lists at every moment.
    const gone = before.filter((one) => list.every(({ fingerprint }) => fingerprint !== one.fingerprint))
    await writeAtomic(at.roles, rolesOf([...list, ...gone]), 0o644)
    await writeAtomic(at.signers, lines.join(''), 0o644)
    if (gone.length > 0) await writeAtomic(at.roles, rolesOf(list), 0o644)
    // Last, so that a recovery key is used up only when its owner is in the list (HANDOVER 19.4).
    await writeListState(join(home.dir, 'operators'), nextState(state, revoke, recovery))
    return result
  } finally {
    await lock.release()
  }
}

function rolesOf(list: readonly Operator[]): string {
  const roles = list.map(({ fingerprint, role, name, noise }) => [fingerprint, { role, name, noise }])
  return `${JSON.stringify(Object.fromEntries(roles), null, 2)}\n`
}

function nextState(state: ListState, revoke: readonly string[], recovery: string | undefined): ListState {
  const counter = state.counter + 1
  const added = revoke.filter((id) => state.revoked.every(({ key }) => key !== id))
  const revoked = [...state.revoked, ...added.map((key) => ({ key, counter }))]
  return { ...state, counter, revoked, ...(recovery === undefined ? {} : { recovery: { key: recovery, counter } }) }
}

function fromLine(line: string): { publicKey: string; name?: string; noise?: string } {
  const comment = line.trim().split(/\s+/)[2]
  return { publicKey: publicKeyLine(line), ...(comment === undefined ? {} : { name: comment }) }
}

export function fromCard(card: SignedCertificate): { publicKey: string; name: string; noise?: string } {
  const cert = verifyCertificate(card)
  if (cert.subject !== 'operator')
    throw new Refusal('usage', `this is the certificate of a ${cert.subject}, expected an operator's`)
  return { publicKey: cert.key, name: cert.name, noise: cert.noise }
}
