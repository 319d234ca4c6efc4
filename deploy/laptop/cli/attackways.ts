/** The functions that make the attacks of attacks.ts. All attacks send real bytes over real sockets. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PushEvent, SignedOrder, Wish } from '../../shared/api.ts'
import type { SignedCertificate } from '../../shared/cert.ts'
import { encodeMessage } from '../../shared/channel/handshake.ts'
import { sealConfigValue } from '../../shared/configvalue.ts'
import { Refusal } from '../../shared/errors.ts'
import type { Signer } from '../../shared/keys.ts'
import { type Fault, flipped, makeBundle, partsOf } from './attackbundle.ts'
import { makeOrder, NotPossible, type OrderParts, type Run, type Scene } from './attackers.ts'
import * as wire from './attackwire.ts'
import type { Answer } from './truststate.ts'

const HEAD = 'HTTP/1.1\r\nHost: robot\r\n'
export const get = (path: string, more = '') => `GET ${path} ${HEAD}${more}\r\n`
export const put = (more: string, slot = 'main') => `PUT /v1/slots/${slot}/program ${HEAD}${more}\r\n\r\n`
export const NOBODY = `sha256:${'0'.repeat(64)}`
/** A request with two lengths: by one of them, its body ends before a second request. */
export const SMUGGLED = `POST / ${HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${get('/v1/status')}`
export const YEAR_MS = 365 * 24 * 3600 * 1000

type Insiders = 'observer' | 'operator'

// ---- bytes of strangers

export const sends =
  (bytes: string | Uint8Array, allowed: readonly number[] = []): Run =>
  ({ owner }) =>
    wire.strangerSends(owner.options, bytes, allowed)

export const upgrades = (bytes: Uint8Array): Run => sends(Buffer.concat([Buffer.from(wire.UPGRADE), bytes]), [101])

/** A handshake with the stranger's channel key and card; `card` replaces parts of the card. */
export const knocks =
  (card: (scene: Scene) => Partial<SignedCertificate>): Run =>
  (scene) => {
    const { options, card: own } = scene.stranger
    return wire.refusal(() => wire.openSession({ ...options, cert: { ...own, ...card(scene) } }))
  }

/** What the owner's laptop writes in one session, without the upgrade request. */
async function recording({ owner }: Scene): Promise<Buffer[]> {
  const { sent, options } = wire.tapped(owner.options)
  const socket = await wire.openStream(options)
  socket.write(get('/v1/status'))
  await new Promise((resolve) => socket.once('data', resolve).once('close', resolve))
  socket.destroy()
  return sent.slice(1)
}

/** A stranger sends recorded bytes of the owner over a new connection. */
export const replays =
  (choose: (recorded: readonly Buffer[]) => readonly Buffer[]): Run =>
  async (scene) => {
    const bytes = Buffer.concat(choose(await recording(scene)))
    return wire.strangerSends(scene.owner.options, Buffer.concat([Buffer.from(wire.UPGRADE), bytes]), [101])
  }

/**
 * The operator sends two requests; `bend` changes their frames on the wire. More than `most` answers mean that it got
 * through.
 */
export const bends =
  (most: number, bend: (frame: Buffer, number: number) => readonly Buffer[]): Run =>
  async ({ operator: { options } }) => {
    let before = Infinity // what the handshake wrote stays as it is
    const tap = wire.tapped(options, (bytes, write) => (write < before ? [bytes] : bend(bytes, write - before)))
    const socket = await wire.openStream(tap.options)
    before = tap.sent.length
    let heard = ''
    socket.on('data', (chunk: Buffer) => {
      heard += chunk.toString('latin1')
    })
    for (const path of ['/v1/status', '/v1/operators']) {
      socket.write(get(path))
      await sleep(50) // or both requests would share a frame
    }
    const end = await wire.closing(socket)
    socket.destroy()
    return wire.statusCodes(heard).length > most ? 'accepted' : end
  }

export const dripping: Run = async ({ owner }) => {
  const { socket } = await wire.upgraded(owner.options)
  socket.write(encodeMessage(randomBytes(200)).subarray(0, 100))
  const drip = setInterval(() => socket.write(Buffer.of(0)), 1000)
  try {
    return await wire.closing(socket)
  } finally {
    clearInterval(drip)
    socket.destroy()
  }
}

/** All are closed 5 s after they came (CHANNEL 5.1). */
export const strangersFlood: Run = async ({ owner }) => {
  const sockets = await Promise.all(Array.from({ length: 200 }, () => wire.dial(owner.options)))
  try {
    for (const [i, socket] of sockets.entries()) if (i % 2 === 0 && socket.writable) socket.write(wire.UPGRADE)
    if ((await wire.statusMeanwhile(owner.options)) === 'late') return 'late'
    return (await wire.closedOf(sockets, sockets.length)) >= sockets.length ? 'closed' : 'left-open'
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

// ---- inside a session

export const asks =
  (bytes: string, options: wire.SendOptions = {}): Run =>
  (scene) =>
    wire.sessionSends(scene.observer.options, [bytes], options)

const MAX_SESSIONS = 16
export const sessionsFlood: Run = async ({ observer: { options }, owner }) => {
  const sockets: Awaited<ReturnType<typeof wire.openSession>>[] = []
  try {
    for (let batch = 0; batch < 4; batch++) {
      const opened = await Promise.allSettled(Array.from({ length: 16 }, () => wire.openSession(options)))
      sockets.push(...opened.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : [])))
    }
    if ((await wire.statusMeanwhile(owner.options)) === 'late') return 'late'
    const wanted = sockets.length - MAX_SESSIONS
    return (await wire.closedOf(sockets, wanted)) >= wanted ? 'closed' : 'left-open'
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

/** Asks for long logs and does not read the answers. */
export const logsFlood: Run = async ({ observer: { options }, owner }) => {
  const sockets = await Promise.all(Array.from({ length: 8 }, () => wire.openStream(options)))
  try {
    for (const socket of sockets) socket.write(get('/v1/logs?lines=10000').repeat(4))
    return await wire.statusMeanwhile(owner.options)
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

// ---- pushes

/** A push counts as refused only if the robot refused it before anything ran. */
export function pushed(events: AsyncIterable<PushEvent>): Promise<Answer> {
  return wire.refusal(async () => {
    for await (const event of events) {
      if (event.event !== 'result' || event.outcome !== 'refused') continue
      throw new Refusal(event.code ?? 'internal', event.message)
    }
  })
}

export const pushes = ({ operator: { client }, slot }: Scene, bundle: Uint8Array) =>
  pushed(client.push(slot.slot, bundle))

export const good = (scene: Scene, fault: Fault = {}) =>
  makeBundle(scene.program, scene.operator.signer, scene.robot, fault)

/** The signer of a faulty bundle or of an order. */
export const signedBy =
  (who: 'owner' | Insiders | 'stranger') =>
  (scene: Scene): { signer: Signer } => ({ signer: scene[who].signer })

export const faulty =
  (fault: Fault | ((scene: Scene) => Fault)): Run =>
  async (scene) =>
    pushes(scene, await good(scene, typeof fault === 'function' ? fault(scene) : fault))

/** A push of a bundle that was made for another robot. */
export const elsewhere =
  (fault: (scene: Scene) => Fault): Run =>
  async (scene) =>
    pushes(scene, await makeBundle(scene.program, scene.operator.signer, scene.elsewhere, fault(scene)))

/** A release signed under `namespace`, or a signature of other `bytes`. */
export const signs = (namespace: string, bytes?: Uint8Array): Run =>
  faulty(({ operator: { signer } }) => ({ sign: (release) => signer.sign(namespace, bytes ?? release) }))

export const flips =
  (part: (parts: ReturnType<typeof partsOf>) => number): Run =>
  async (scene) => {
    const bundle = await good(scene)
    const parts = partsOf(bundle)
    return pushes(scene, flipped(bundle, part(parts), part(parts) < parts.nonce))
  }

export const cut =
  (keep: (length: number) => number): Run =>
  async (scene) => {
    const bundle = await good(scene)
    return pushes(scene, bundle.subarray(0, keep(bundle.length)))
  }

export const uploads =
  (head: string, body: string | Uint8Array = '', options: wire.SendOptions = {}): Run =>
  (scene) =>
    wire.sessionSends(scene.operator.options, [head, body], options)

/** The header of a good bundle, and then a byte a second: too slow for the least rate, which counts after 10 s. */
export const crawling: Run = async (scene) => {
  const bundle = await good(scene)
  const { content } = partsOf(bundle)
  const head = [put(`Content-Length: ${bundle.length}`), bundle.subarray(0, content)]
  return wire.sessionSends(scene.operator.options, head, { thenBytewise: bundle.subarray(content) })
}

/** The program that the slot runs, built again with the lowest counter. */
export const older: Run = async (scene) => {
  const { program, version } = scene.slot
  if (program === undefined || version === undefined) throw new NotPossible('the slot runs nothing')
  return pushes(scene, await good(scene, { manifest: { program, version }, release: { counter: 1 } }))
}

export const again: Run = async (scene) => {
  if (scene.installed === undefined) throw new NotPossible('only who pushed it has the bundle')
  return pushes(scene, scene.installed)
}

export const otherKind: Run = async (scene) => {
  const [handle] = scene.handles
  if (handle === undefined) throw new NotPossible('the board has no handles')
  const needs = { [handle.name]: handle.kind === 'pwm' ? 'output' : 'pwm' }
  return pushes(scene, await good(scene, { manifest: { needs } }))
}

/** A payload of 32 MiB of zeros, signed as 64 KiB. */
export const bomb: Run = faulty({ tar: () => new Uint8Array(32 * 1024 * 1024), unpacked: 64 * 1024 })

export const forcedBy =
  (who: 'owner' | 'operator' | 'stranger', digest: string | null): Run =>
  async (scene) => {
    const { slot } = scene.slot
    const wish: Wish = { order: 'push', slot, digest, force: true, retry: true }
    const signed = await makeOrder(scene, wish, signedBy(who)(scene))
    const bundle = await good(scene)
    const order = `Medulla-Order: ${Buffer.from(JSON.stringify(signed)).toString('base64url')}`
    return wire.sessionSends(scene.operator.options, [
      put(`${order}\r\nContent-Length: ${bundle.length}`, slot),
      bundle,
    ])
  }

// ---- orders

export const carriesOut = (scene: Scene, signed: SignedOrder, by: Insiders = 'operator') =>
  wire.refusal(async () => {
    for await (const event of scene[by].client.carryOut<PushEvent>(signed)) {
      if (event.event === 'result' && event.outcome === 'refused')
        throw new Refusal(event.code ?? 'internal', event.message)
    }
  })

/** An order signed by the observer, with a nonce that the robot gave to the operator: observers get none. */
export const wishes =
  (wish: (scene: Scene) => Wish): Run =>
  async (scene) =>
    carriesOut(scene, await makeOrder(scene, wish(scene), { signer: scene.observer.signer }), 'observer')

export const orders =
  (wish: (scene: Scene) => Wish, parts: (scene: Scene) => Partial<OrderParts> = () => ({})): Run =>
  async (scene) =>
    carriesOut(scene, await makeOrder(scene, wish(scene), { signer: scene.operator.signer, ...parts(scene) }))

export const start = ({ slot }: Scene): Wish => ({ order: 'start', slot: slot.slot })
export const release = (): Wish => ({ order: 'release' })
export const setting = (handle: string): Wish => ({ order: 'set', handle, value: 1 })
export const outputOf = ({ handles }: Scene) => handles.find(({ kind }) => kind === 'output')?.name ?? 'led'
export const dismisses = ({ owner }: Scene): Wish => ({ order: 'remove-operator', operator: owner.signer.fingerprint })
export const becomeOwner =
  (who: Insiders) =>
  (scene: Scene): Wish => ({ order: 'change-role', operator: scene[who].signer.fingerprint, role: 'owner' })
export const admits = ({ stranger: { card, name } }: Scene): Wish => ({
  order: 'add-operator',
  card,
  key: null,
  name,
  role: 'owner',
})
/** Bars the owner's key for ever. */
export const bars = ({ owner }: Scene): Wish => ({ order: 'revoke-key', key: owner.signer.fingerprint })
export const ownRecovery = ({ stranger }: Scene): Wish => ({ order: 'set-recovery', key: stranger.signer.publicKey })
/** Another key is to sign in the name of the operator. */
export const lends =
  (key: (scene: Scene) => string, hours: number) =>
  (scene: Scene): Wish => ({ order: 'delegate', slot: scene.slot.slot, key: key(scene), hours })
export const backTo = ({ slot }: Scene, target: string): Wish => ({
  order: 'rollback',
  slot: slot.slot,
  program: slot.program ?? 'none',
  target,
  from: slot.digest ?? null,
})

export const heldHandle = (scene: Scene): Wish => {
  const held = scene.slot.handles.find(({ kind }) => kind === 'output')
  if (held === undefined) throw new NotPossible('the program holds no output')
  return { order: 'set', handle: held.name, value: held.value === 1 ? 0 : 1 }
}

export const sealedElsewhere: Run = async (scene) => {
  const sealed = await sealConfigValue('attack', scene.elsewhere.age)
  const { signer } = scene.operator
  return carriesOut(scene, await makeOrder(scene, { order: 'set-config', name: 'ATTACK', sealed }, { signer }))
}

/** The same order twice. The first is refused, too (the value is not set), but has used up its nonce. */
export const unsetTwice: Run = async (scene) => {
  const { signer } = scene.operator
  const once = await makeOrder(scene, { order: 'unset-config', name: 'ATTACK' }, { signer })
  const first = await carriesOut(scene, once)
  return first === 'not-found' ? carriesOut(scene, once) : first
}

export const changed: Run = (scene) => {
  const { order, sig } = scene.observer.admission
  return carriesOut(scene, { order: order.replace('"role":"observer"', '"role":"owner"'), sig })
}
