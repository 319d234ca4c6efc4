/** Changes of the keys behind the list of operators: revocation, rotation and recovery (HANDOVER 19). */
import type { RevokedKey, Wish } from '../../deploy/shared/api.ts'
import type { SignedCertificate } from '../../deploy/shared/cert.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { fingerprint, publicKeyLine } from '../../deploy/shared/keys.ts'
import { makeRecoveryKey } from '../../deploy/shared/recoverykey.ts'
import { MAX_REVOKED } from './liststate.ts'
import {
  change,
  fromCard,
  type HomeDir,
  known,
  NAMESPACES,
  nameFor,
  type Operator,
  refuseRevoked,
} from './operators.ts'

/** Makes a recovery key for a robot that has none; its text is in no file. Null: the robot has one already. */
export async function makeFirstRecovery(home: HomeDir): Promise<string | null> {
  const { text, publicKey } = makeRecoveryKey()
  return change(home, undefined, (list, { recovery }) =>
    recovery === null ? { list, recovery: publicKey, result: text } : { list, result: null },
  )
}

/** Bars a key for ever, and removes its operator if it has one. Throws Refusal `role` when no owner would be left. */
export async function revokeKey(home: HomeDir, id: string, counter?: number): Promise<RevokedKey> {
  return change(home, counter, (list) => {
    const name = list.find(({ fingerprint }) => fingerprint === id)?.name ?? null
    return { list: list.filter((one) => one.fingerprint !== id), revoke: [id], result: { fingerprint: id, name } }
  })
}

/** The operator `id` has another key from now on; the old one is revoked. */
export async function rotateOperator(
  home: HomeDir,
  id: string,
  card: SignedCertificate,
  counter?: number,
): Promise<Operator> {
  return change(home, counter, (list, state) => {
    const before = known(list, id)
    const made = fromCard(card)
    const next = fingerprint(made.publicKey)
    refuseRevoked(state, next)
    // The other half of the places is kept for keys that owners revoke.
    if (state.revoked.length >= MAX_REVOKED / 2) {
      throw new Refusal('too-large', 'this robot remembers too many revoked keys', 'ask an owner to add your new key')
    }
    if (list.some((one) => one.fingerprint === next)) {
      throw new Refusal('usage', `${next} is the key of an operator already`, 'make another key: medulla keygen')
    }
    const { noise: _, ...rest } = before
    const noise = made.noise === undefined ? {} : { noise: made.noise }
    const result: Operator = { ...rest, publicKey: made.publicKey, fingerprint: next, ...noise }
    return { list: list.map((one) => (one === before ? result : one)), revoke: [id], result }
  })
}

/** `key` is the public half. */
export async function setRecovery(home: HomeDir, key: string, counter?: number): Promise<void> {
  await change(home, counter, (list) => ({ list, recovery: publicKeyLine(key), result: null }))
}

/** Carries out the order that the recovery key `signer` signed (HANDOVER 19.4). */
export async function recover(
  home: HomeDir,
  signer: string,
  { card, name, revoke, next, list: counter }: Extract<Wish, { order: 'recover' }>,
): Promise<{ owner: Operator; revoked: RevokedKey[] }> {
  return change(home, counter, (list, state) => {
    if (state.recovery?.key !== signer) {
      throw new Refusal('unknown-operator', 'the robot has another recovery key by now', 'type the newest one')
    }
    if (next === signer) throw new Refusal('usage', 'the next recovery key is the one that is used up')
    const revoked = revoke.map((who): RevokedKey => {
      const found = list.find((one) => one.fingerprint === who || one.name === who)
      if (found === undefined && !who.startsWith('SHA256:')) {
        throw new Refusal('not-found', `no operator of the robot is called ${who}`, 'name the key instead: SHA256:…')
      }
      return { fingerprint: found?.fingerprint ?? who, name: found?.name ?? null }
    })
    const gone = new Set(revoked.map((each) => each.fingerprint))
    const made = fromCard(card)
    const id = fingerprint(made.publicKey)
    refuseRevoked(state, id)
    if (gone.has(id)) throw new Refusal('usage', `${id} cannot become an owner and be revoked at once`)
    const kept = list.filter((one) => one.fingerprint !== id && !gone.has(one.fingerprint))
    const before = list.find((one) => one.fingerprint === id)
    const owner: Operator = {
      publicKey: made.publicKey,
      fingerprint: id,
      role: 'owner',
      name: nameFor(id, name ?? before?.name ?? made.name, kept),
      ...(made.noise === undefined ? {} : { noise: made.noise }),
      namespaces: NAMESPACES.owner,
    }
    const result = { owner, revoked }
    return { list: [...kept, owner], revoke: [...gone], recovery: publicKeyLine(next), result }
  })
}
