/** The attackers of `medulla attack`: keys that exist in this process only, and the data that attacks may use. */
import type { Role, SignedOrder, SlotStatus, Wish } from '../../shared/api.ts'
import type { BoardEntry } from '../../shared/board.ts'
import { toBase64 } from '../../shared/bundle/sshsig.ts'
import { encodeJson } from '../../shared/bundle/strict.ts'
import { issueCertificate, type SignedCertificate } from '../../shared/cert.ts'
import { fingerprint, generateAgeIdentity, generateNoiseKey, keySigner, type Signer } from '../../shared/keys.ts'
import { makeSshKey, parseSshKey } from '../../shared/sshkey.ts'
import { type ClientOptions, RobotClient } from '../client.ts'
import type { Program, Recipient } from './attackbundle.ts'
import type { Answer } from './truststate.ts'

export interface Attacker {
  readonly name: string
  readonly signer: Signer
  readonly card: SignedCertificate
  /** for sessions with this key */
  readonly options: ClientOptions
}
/** An attacker who is an operator of the robot for the time of the attacks. */
export interface Insider extends Attacker {
  readonly client: RobotClient
  /** The owner's order that added this operator; the robot has carried it out. */
  readonly admission: SignedOrder
}

/** Everything that an attack may use. */
export interface Scene {
  readonly owner: { readonly client: RobotClient; readonly options: ClientOptions; readonly signer: Signer }
  readonly observer: Insider
  readonly operator: Insider
  readonly stranger: Attacker
  readonly robot: Recipient
  /** Another robot, which does not exist. */
  readonly elsewhere: Recipient
  readonly program: Program
  /** Status of the attacked slot. */
  readonly slot: SlotStatus
  readonly handles: readonly BoardEntry[]
  /** The bundle that the slot runs, if this command pushed it. */
  readonly installed: Uint8Array | undefined
}

export type Run = (scene: Scene) => Promise<Answer>
/** `forwarder`: sends on what others signed, as a hostile endpoint could, or a person who recorded it. */
export type Who = 'stranger' | 'observer' | 'operator' | 'forwarder'
export interface Attack {
  readonly who: Who
  /** at most 38 characters: a line of the command has 80 */
  readonly what: string
  readonly expected: Answer
  readonly run: Run
}

/** Thrown by an attack that needs a handle, a program or a bundle which is not there. */
export class NotPossible extends Error {}

export async function makeAttacker(name: string, owner: ClientOptions): Promise<Attacker> {
  const { publicKey, privateKey } = parseSshKey(makeSshKey(name).file)
  if (privateKey === null) throw new Error('a new key is never encrypted')
  const signer = keySigner(publicKey, privateKey)
  const noise = generateNoiseKey()
  const card = await issueCertificate(
    {
      format: 'medulla-cert/1',
      subject: 'operator',
      name,
      key: publicKey,
      noise: Buffer.from(noise.public).toString('base64'),
      created: new Date().toISOString(),
    },
    signer,
  )
  const options = { ...owner, noiseSecret: noise.secret, cert: card, signer: async () => signer }
  return { name, signer, card, options }
}

/** Keys of a robot that does not exist. */
export async function anotherRobot(): Promise<Recipient> {
  const { recipient } = await generateAgeIdentity()
  return { id: fingerprint(makeSshKey('robot').publicKey), age: recipient }
}

/**
 * Adds the attacker as an operator, by an order of the owner. Removes an operator of that name, left by a run that was
 * killed.
 */
export async function letIn(owner: RobotClient, attacker: Attacker, role: Role): Promise<Insider> {
  for (const { name, fingerprint: operator } of await owner.operators())
    if (name === attacker.name) await owner.changeOperators({ order: 'remove-operator', operator })
  const wish = { order: 'add-operator', card: attacker.card, key: null, name: attacker.name, role } as const
  const admission = await owner.sign(wish)
  for await (const _ of owner.carryOut<unknown>(admission));
  return { ...attacker, admission, client: await RobotClient.connect(attacker.options) }
}

export async function keepOut(owner: RobotClient, attacker: Attacker): Promise<void> {
  await owner.changeOperators({ order: 'remove-operator', operator: attacker.signer.fingerprint })
}

export interface OrderParts {
  signer: Signer
  robot?: string
  nonce?: string
}

/** An order with another signer, robot or nonce than RobotClient would use. Without `nonce`, the robot gives a fresh one. */
export async function makeOrder({ operator, robot }: Scene, wish: Wish, parts: OrderParts): Promise<SignedOrder> {
  const nonce = parts.nonce ?? (await freshNonce(operator.client))
  const bytes = encodeJson({ format: 'medulla-order/2', robot: parts.robot ?? robot.id, nonce, ...wish })
  return { order: Buffer.from(bytes).toString(), sig: toBase64(await parts.signer.sign('order@medulla', bytes)) }
}

async function freshNonce(client: RobotClient): Promise<string> {
  const { order } = await client.sign({ order: 'release' })
  return (JSON.parse(order) as { nonce: string }).nonce
}
