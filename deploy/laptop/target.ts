/**
 * Finds robots by name or address. Invariant: a session is only opened with a robot whose card this laptop has stored; an
 * address alone is never trusted (test/runtime/endpoint/endpoint.test.ts). Every push loads this file before its first byte, so
 * it imports little.
 */
import { createHash } from 'node:crypto'
import { isIPv6 } from 'node:net'
import { DEFAULT_PORT } from '../shared/api.ts'
import type { Certificate } from '../shared/cert.ts'
import { Refusal } from '../shared/errors.ts'
import { NAME_PATTERN } from '../shared/names.ts'
import type { ClientOptions } from './client.ts'
import { type Env, type KnownRobot, keyPath, operator, type Robots, readPsk, readRobots, signer } from './config.ts'
import { greet } from './greeting.ts'

/** The config folder, and the environment that may name a key. */
export interface Laptop {
  readonly dir: string
  readonly env: Env
}

export interface Target {
  name: string
  host: string
  port: number
  card: Certificate & { id: string }
  /** Its user gave the address, so it is not looked for at another one (CHANNEL 11.8). */
  given?: true
}

/** `host`, `host:port`, an IPv6 address, also with a zone (`fe80::1%usb0`), or `[v6]:port`. */
export function parseAddress(text: string): { host: string; port: number } {
  if (isIPv6(text)) return { host: text, port: DEFAULT_PORT }
  const match = /^(?:\[([^\]]+)\]|([^\s:/@[\]]+))(?::(\d{1,5}))?$/.exec(text)
  const [, inner, plain, digits] = match ?? []
  const host = inner !== undefined && isIPv6(inner) ? inner : plain
  const port = digits === undefined ? DEFAULT_PORT : Number(digits)
  if (host === undefined || port < 1 || port > 65535) {
    throw new Refusal('usage', `expected HOST or HOST:PORT, got ${JSON.stringify(text)}`, addressHint(text))
  }
  return { host, port }
}

/** The hint names the host of an ssh target (`pi@arm.local`) or of a URL, which people often give. */
function addressHint(text: string): string {
  const host = /^(?:[a-z]+:\/\/)?(?:[^@/]*@)?([^/@\s]+)/i.exec(text)?.[1] ?? ''
  return host !== '' && host !== text && !host.startsWith('[') ? `write ${host}` : 'like arm.local, 192.168.1.20:7171 or [fe80::1%usb0]:7171' // biome-ignore format: one statement
}

export function formatAddress(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

function target(name: string, robot: KnownRobot, address = robot.address): Target {
  return { name, ...parseAddress(address), card: readCard(name, robot) }
}

/**
 * Does not verify the card's signature: `trust` or `sim` did so when they stored it, and each push would take 3 ms longer. A
 * person who can change robots.json could just as well run `medulla trust`.
 */
function readCard(name: string, robot: KnownRobot): Certificate & { id: string } {
  let card: Partial<Certificate> | undefined
  try {
    card = JSON.parse(robot.card.cert) as Partial<Certificate>
  } catch {
    // not JSON: refused below
  }
  const id = idOf(card ?? {})
  if (card?.subject !== 'robot' || id === null) {
    throw new Refusal(
      'unknown-robot',
      `the card of ${name} is damaged`,
      `medulla trust ${name} ${robot.address} --card robot.json --replace`,
    )
  }
  return { ...(card as Certificate), id }
}

/** The fingerprint of the key that a card names; null when there is no such key in it. */
export function idOf({ key }: Partial<Certificate>): string | null {
  const blob = /^ssh-ed25519 ([A-Za-z0-9+/]{68})$/.exec(key ?? '')?.[1]
  if (blob === undefined) return null
  return `SHA256:${createHash('sha256').update(Buffer.from(blob, 'base64')).digest('base64').replace('=', '')}`
}

/** The robot of `-d`; without `-d` the default robot, or the only one that this laptop knows. */
export async function findRobot(dir: string, device: string | undefined): Promise<Target> {
  const known = readRobots(dir)
  if (device === undefined) return onlyRobot(known)
  const [first, ...more] = device.split(',')
  if (more.length > 0) {
    throw new Refusal(
      'usage',
      `this is for one robot, and -d names ${more.length + 1}`,
      `give it for each: -d ${first}`,
    )
  }
  const named = known.robots[device]
  if (named !== undefined) return target(device, named)
  if (!/[.:]/.test(device) && device !== 'localhost') throw unknown(device, known)
  return atAddress(known, device)
}

function onlyRobot(known: Robots): Target {
  const names = Object.keys(known.robots)
  const name = known.default ?? (names.length === 1 ? names[0] : undefined)
  const robot = name === undefined ? undefined : known.robots[name]
  if (name !== undefined && robot !== undefined) return target(name, robot)
  if (names.length === 0) {
    throw new Refusal(
      'unknown-robot',
      'this laptop knows no robot yet',
      'medulla robots finds real robots; medulla sim starts a simulated one',
    )
  }
  throw new Refusal(
    'usage',
    `which robot? known: ${names.join(', ')}`,
    `medulla use ${names[0]}, or add -d ${names[0]}`,
  )
}

/** Throws `unknown-robot`. */
export function checkKnown(known: Robots, name: string): KnownRobot {
  const robot = known.robots[name]
  if (robot !== undefined) return robot
  const list = Object.keys(known.robots).join(', ') || 'none'
  throw new Refusal('unknown-robot', `no robot is called ${JSON.stringify(name)}; known: ${list}`, 'medulla robots')
}

async function atAddress(known: Robots, device: string): Promise<Target> {
  const { host, port } = parseAddress(device)
  const address = formatAddress(host, port)
  const [listed, ...more] = Object.entries(known.robots).filter(([, robot]) => robot.address === address)
  if (listed !== undefined && more.length === 0) return { ...target(listed[0], listed[1]), given: true }
  // No robot is stored with this address, or several are: the greeting says which card to use, and the handshake proves it.
  const greeting = await greet(host, port)
  const match = Object.entries(known.robots).find(([name, robot]) => readCard(name, robot).id === greeting.id)
  if (match !== undefined) return { ...target(match[0], match[1], address), given: true }
  throw new Refusal(
    'unknown-robot',
    `the robot at ${address} calls itself ${JSON.stringify(greeting.name)} (${greeting.id}); this laptop has no card of it`,
    `medulla pair ${address}`,
  )
}

function unknown(device: string, known: Robots): Refusal {
  const names = Object.keys(known.robots)
  const list = names.length === 0 ? 'this laptop knows none yet' : `known: ${names.join(', ')}`
  const name = NAME_PATTERN.test(device) ? device : 'NAME'
  const hint = device === 'sim' ? 'medulla sim' : `medulla pair ADDRESS --name ${name}`
  return new Refusal('unknown-robot', `no robot is called ${JSON.stringify(device)}; ${list}`, hint)
}

/** Options for sessions with the operator's own key; `key`: the file of --key. */
export async function clientOptions(
  { dir, env }: Laptop,
  robot: Target,
  key: string | undefined,
): Promise<ClientOptions> {
  const path = keyPath(dir, key, env)
  const { noiseSecret, card } = await operator(dir, path)
  const { host, port } = robot
  const psk = readPsk(dir, robot.name)
  return {
    ...{ host, port, noiseSecret, cert: card, robot: robot.card, signer: () => signer(path) },
    ...(psk !== undefined && { psk }),
    renewed: async (renewed) => {
      // loaded here, because it is rare
      const { renewCard } = await import('./renewedcard.ts')
      await renewCard(dir, renewed)
      robot.card = readCard(robot.name, { address: '', card: renewed })
    },
  }
}
