import { expect, test } from 'vitest'
import type { Order, SignedOrder, Wish } from '../../../../deploy/shared/api.ts'
import { toBase64 } from '../../../../deploy/shared/bundle/sshsig.ts'
import { encodeJson } from '../../../../deploy/shared/bundle/strict.ts'
import type { Signer } from '../../../../deploy/shared/keys.ts'
import { makeRecoveryKey, openRecoveryKey } from '../../../../deploy/shared/recoverykey.ts'
import { OrderDesk } from '../../../../runtime/body/orders/orders.ts'
import { NO_STATE } from '../../../../runtime/store/liststate.ts'
import { Operators } from '../../../../runtime/store/operators.ts'
import { newSigner } from '../../../fixtures/bundles.ts'

const ROBOT = 'SHA256:robot'
const DIGEST = `sha256:${'0'.repeat(64)}`
const [ann, eve, stranger] = [newSigner(), newSigner(), newSigner()]
const listed = (signer: Signer, role: 'operator' | 'observer', name: string) => ({
  publicKey: signer.publicKey,
  fingerprint: signer.fingerprint,
  role,
  name,
  namespaces: ['order@medulla'],
})
const operators = new Operators([listed(ann, 'operator', 'ann'), listed(eve, 'observer', 'eve')])
const desk = new OrderDesk(ROBOT, () => operators)

async function signed(wish: Wish | object, { by = ann, ...other }: Partial<Order> & { by?: Signer } = {}) {
  return sealed({ format: 'medulla-order/2', robot: ROBOT, nonce: desk.nonce(), ...wish, ...other }, by)
}

async function sealed(order: object, by: Signer): Promise<SignedOrder> {
  const bytes = encodeJson(order)
  return { order: Buffer.from(bytes).toString(), sig: toBase64(await by.sign('order@medulla', bytes)) }
}

const refused = (code: string, message: RegExp | string = /./) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) })

test('HANDOVER 8.10: an order of an operator works once', async () => {
  const wishes: Wish[] = [
    { order: 'start', slot: 'main' },
    { order: 'rollback', slot: 'main', program: 'arm', target: DIGEST, from: null },
    { order: 'set', handle: 'led', value: 0.5 },
    { order: 'poke', handle: 'button', what: null, value: '1' },
    { order: 'poke', handle: 'imu', what: 'accel', value: '[0,0,1]' },
    { order: 'params', slot: 'main', change: { set: { speed: 1 } } },
    { order: 'params', slot: 'main', change: { reset: 'all' } },
    { order: 'set-config', name: 'TOKEN', sealed: 'YWdl' },
    { order: 'unset-config', name: 'TOKEN' },
    { order: 'release' },
    { order: 'push', slot: 'main', digest: DIGEST, force: true, retry: false },
  ]
  for (const wish of wishes) {
    const order = await signed(wish)
    expect(desk.check(order)).toMatchObject({ order: wish, by: { name: 'ann' } })
    expect(() => desk.check(order)).toThrow(refused('stale-order'))
  }
})

test('HANDOVER 8.10: an order of a stranger or observer, for another robot, or with an altered text is refused', async () => {
  const start = { order: 'start', slot: 'main' } as const
  const cases: [SignedOrder, string, RegExp | string][] = [
    [await signed(start, { by: stranger }), 'unknown-operator', 'not signed by an operator'],
    [await signed(start, { by: eve }), 'role', 'eve is observer'],
    [await signed(start, { robot: 'SHA256:other' }), 'wrong-robot', 'SHA256:other'],
    [await signed(start, { nonce: 'invented' }), 'stale-order', /./],
    [await signed({ ...start, slot: '../main' }), 'usage', 'slot'],
    [await signed({ ...start, also: 1 }), 'usage', /./],
    [await signed({ order: 'shutdown' }), 'usage', /./],
    [await signed({ order: 'unset-config', name: 'token' }), 'usage', 'name'],
    [await signed({ order: 'set-config', name: 'TOKEN', sealed: 'A'.repeat(8193) }), 'usage', 'sealed'],
    [await signed({ order: 'set', handle: 'led', value: '1' }), 'usage', 'value'],
    [await sealed({ ...start, robot: ROBOT, nonce: desk.nonce(), format: 'medulla-order/1' }, ann), 'unknown-format', /./], // biome-ignore format: one case
  ]
  const good = await signed(start)
  cases.push([{ ...good, order: good.order.replace('main', 'arm') }, 'bad-signature', /./])
  cases.push([{ ...good, sig: 'AAAA' }, 'bad-signature', /./])
  // the same text signed for another purpose
  const bytes = Buffer.from(good.order)
  cases.push([{ ...good, sig: toBase64(await ann.sign('release@medulla', bytes)) }, 'bad-signature', /./])
  for (const [order, code, message] of cases) expect(() => desk.check(order)).toThrow(refused(code, message))
  expect(desk.check(good)).toMatchObject({ order: start })
})

test('HANDOVER 2.9: a stop makes earlier nonces of the slot stale, an emergency stop those of all starting orders', async () => {
  const start = (slot: string) => signed({ order: 'start', slot })
  const orders = { main: await start('main'), arm: await start('arm'), release: await signed({ order: 'release' }) }
  const change = await signed({ order: 'params', slot: 'main', change: { reset: 'all' } })
  desk.stopped('main')
  expect(() => desk.check(orders.main)).toThrow(refused('stale-order', 'a stop came after'))
  expect(desk.check(orders.arm)).toMatchObject({ order: { slot: 'arm' } })
  desk.stopped(null)
  expect(() => desk.check(orders.release)).toThrow(refused('stale-order', 'a stop came after'))
  expect(desk.check(change)).toMatchObject({ order: { order: 'params' } })
  expect(desk.check(await start('main'))).toMatchObject({ order: { slot: 'main' } })
})

test('HANDOVER 8.10: requesting many nonces does not block orders of others', async () => {
  const first = await signed({ order: 'release' })
  for (let n = 0; n < 10_000; n++) desk.nonce()
  expect(desk.check(first)).toMatchObject({ order: { order: 'release' } })
  const other = new OrderDesk(ROBOT, () => operators)
  const foreign = await signed({ order: 'release' }, { nonce: other.nonce() })
  expect(() => desk.check(foreign)).toThrow(refused('stale-order', 'its nonce is not from this robot'))
})

/** The list with a recovery key, a desk of its own, and orders for it. */
async function recovering() {
  const { text, publicKey } = makeRecoveryKey()
  const list = new Operators(operators.all(), { ...NO_STATE, recovery: { key: publicKey, counter: 1 } })
  const own = new OrderDesk(ROBOT, () => list)
  const card = { cert: '{}', sig: 'AAAA' }
  const wish = { order: 'recover', card, name: null, revoke: ['ann'], next: makeRecoveryKey().publicKey } as const
  const by = async (signer: Signer, what: Wish = wish) => signed(what, { by: signer, nonce: own.nonce() })
  return { own, wish, by, key: (await openRecoveryKey(text)).signer }
}

test('HANDOVER 19.4: the recovery key signs recoveries and nothing else, each order once', async () => {
  const { own, wish, by, key } = await recovering()
  const order = await by(key)
  expect(own.check(order)).toMatchObject({ order: wish, by: { fingerprint: key.fingerprint, name: 'recovery-key' } })
  expect(() => own.check(order)).toThrow(refused('stale-order'))
  for (const other of [
    { order: 'start', slot: 'main' },
    { order: 'remove-operator', operator: ann.fingerprint },
    { order: 'rotate-keys' },
  ] as const) {
    const signedOrder = await by(key, other)
    expect(() => own.check(signedOrder)).toThrow(refused('role', 'signs recoveries only'))
  }
})

test('HANDOVER 19.5: five recoveries with wrong keys are looked at, then one a minute; the right key is never held up', async () => {
  const { own, wish, by, key } = await recovering()
  for (let n = 0; n < 5; n++) {
    const guess = await by(n === 0 ? ann : newSigner())
    expect(() => own.check(guess)).toThrow(refused('unknown-operator', 'not signed by the recovery key'))
  }
  const next = await by(newSigner())
  expect(() => own.check(next)).toThrow(refused('in-progress', 'too many recoveries'))
  expect(own.check(await by(key))).toMatchObject({ order: wish })
  // orders of others are not held up either
  expect(own.check(await by(ann, { order: 'release' }))).toMatchObject({ by: { name: 'ann' } })
})
