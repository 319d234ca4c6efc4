import { expect, test } from 'vitest'
import { fingerprint } from '../../../../deploy/shared/keys.ts'
import { Delegations, MAX_DELEGATION_MS } from '../../../../runtime/body/orders/delegations.ts'
import { NO_STATE } from '../../../../runtime/store/liststate.ts'
import { type Operator, Operators } from '../../../../runtime/store/operators.ts'
import { newSigner } from '../../../fixtures/bundles.ts'

function person(name: string, role: Operator['role'] = 'operator'): Operator {
  const { publicKey, fingerprint } = newSigner()
  return { publicKey, fingerprint, role, name, namespaces: ['release@medulla', 'order@medulla'] }
}

const [ann, bob] = [person('ann'), person('bob')]
const HOUR = 3_600_000

function desk() {
  let list = [ann, bob]
  let now = 1000
  const revoked: { key: string; counter: number }[] = []
  const delegations = new Delegations(
    () => new Operators(list, { ...NO_STATE, revoked }),
    () => now,
  )
  return {
    delegations,
    pass: (ms: number) => {
      now += ms
    },
    revoke: (key: string) => revoked.push({ key: fingerprint(key), counter: 1 }),
    become: (next: Operator[]) => {
      list = next
    },
  }
}

const key = () => newSigner().publicKey

test('HANDOVER 20.2: a delegated key signs for one slot and for the pushes of its operator, until its time is over', () => {
  const { delegations, pass } = desk()
  const one = key()
  delegations.add(one, 'main', ann, HOUR)
  expect(delegations.signers()).toEqual([one])
  expect(delegations.signers('main', ann.fingerprint)).toEqual([one])
  expect(delegations.signers('arm', ann.fingerprint)).toEqual([])
  expect(delegations.signers('main', bob.fingerprint)).toEqual([])
  pass(HOUR - 1)
  expect(delegations.signers()).toEqual([one])
  pass(1)
  expect(delegations.signers()).toEqual([])
})

test('HANDOVER 20.1: no delegation lasts longer than 8 hours', () => {
  const { delegations, pass } = desk()
  delegations.add(key(), 'main', ann, 100 * HOUR)
  pass(MAX_DELEGATION_MS - 1)
  expect(delegations.signers()).toHaveLength(1)
  pass(1)
  expect(delegations.signers()).toEqual([])
})

test('HANDOVER 20.3: a delegation ends when its operator is removed, revoked or becomes an observer, and does not come back', () => {
  for (const later of [[bob], [{ ...ann, role: 'observer' as const }, bob]]) {
    const { delegations, become } = desk()
    delegations.add(key(), 'main', ann, HOUR)
    become(later)
    expect(delegations.signers()).toEqual([])
    become([ann, bob])
    expect(delegations.signers()).toEqual([])
  }
})

test('HANDOVER 19.2, 20.3: a delegated key that is revoked signs nothing any more, and is not delegated again', () => {
  const { delegations, revoke } = desk()
  const [one, two] = [key(), key()]
  for (const each of [one, two]) delegations.add(each, 'main', ann, HOUR)
  revoke(one)
  expect(delegations.signers()).toEqual([two])
  for (const by of [ann, bob]) expect(() => delegations.add(one, 'main', by, HOUR)).toThrow('was revoked')
  expect(delegations.signers()).toEqual([two])
})

test('an operator has at most 8 delegations, and takes nobody else their key', () => {
  const { delegations } = desk()
  const keys = Array.from({ length: 9 }, key)
  const others = key()
  delegations.add(others, 'main', bob, HOUR)
  for (const each of keys) delegations.add(each, 'main', ann, HOUR)
  expect(delegations.signers('main', ann.fingerprint)).toEqual(keys.slice(1))
  expect(() => delegations.add(others, 'main', ann, HOUR)).toThrow('a delegation needs a key of its own')
  expect(() => delegations.add(bob.publicKey, 'main', ann, HOUR)).toThrow('a delegation needs a key of its own')
  expect(delegations.signers('main', bob.fingerprint)).toEqual([others])
})
