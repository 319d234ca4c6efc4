/** The other end of the endpoint's fd 3: a small peer that speaks the real messages to the real process. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { makeBundle } from '../../../deploy/laptop/build.ts'
import { RobotClient } from '../../../deploy/laptop/client.ts'
import type { Role } from '../../../deploy/shared/api.ts'
import { encodeManifest } from '../../../deploy/shared/bundle/manifest.ts'
import {
  type Certificate,
  issueCertificate,
  type SignedCertificate,
  verifyCertificate,
} from '../../../deploy/shared/cert.ts'
import { generateAgeIdentity, generateNoiseKey, loadSigner, type Signer } from '../../../deploy/shared/keys.ts'
import { LineSplitter } from '../../../deploy/shared/linesplitter.ts'
import { type BodyMessage, EndpointMessage, STAGED_FILES } from '../../../runtime/ipc.ts'
import type { ServerConfine } from '../../../runtime/sdk/confined.ts'
import { eventually } from '../../e2e/eventually.ts'
import { certificateOf } from '../../fixtures/cards.ts'
import { manifestOf } from '../../fixtures/manifests.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
/** beside the packages that the endpoint imports */
export const built = join(root, 'node_modules', '.cache', `medulla-endpoint-${process.pid}`)

export async function buildEndpoint(): Promise<void> {
  await build({
    absWorkingDir: root,
    entryPoints: ['runtime/endpoint/main.ts', 'runtime/endpoint/opener-thread.ts', 'runtime/endpoint/opener.ts'],
    outdir: join(built, 'runtime/endpoint'),
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    conditions: ['source'],
  })
}

export interface Person {
  signer: Signer
  noiseSecret: Uint8Array
  card: SignedCertificate
  role: Role | null
  name: string
}

/** With a key as ssh-keygen makes it. */
export async function makePerson(folder: string, name: string, role: Role | null): Promise<Person> {
  const path = join(folder, `id_${name}`)
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', `${name}@laptop`, '-f', path])
  const signer = await loadSigner(path)
  const noise = generateNoiseKey()
  const card = await issueCertificate(certificateOf('operator', name, signer, noise.public), signer)
  return { signer, noiseSecret: noise.secret, card, role, name }
}

type Answer = (message: Extract<BodyMessage, { id: number }>) => void
type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never
type Handler = (message: EndpointMessage, answer: (rest: WithoutId<Parameters<Answer>[0]>) => void) => void

export class BodyPeer {
  readonly messages: EndpointMessage[] = []
  readonly people: Person[]
  readonly folder: string
  /** By index, as `install` says it. */
  readonly staging: readonly string[]
  readonly robot: Certificate & { id: string }
  log = ''
  /** How the endpoint is told to confine itself. */
  confine: ServerConfine = { user: null, seccomp: true }
  /** what the test wants answered, before the answers below */
  handler: Handler = () => {}
  readonly #keys: { noise: string; age: string }
  #child: ChildProcess | undefined
  #pipe: Duplex | undefined

  private constructor(
    folder: string,
    people: Person[],
    robot: Certificate & { id: string },
    keys: { noise: string; age: string },
  ) {
    this.folder = folder
    this.#keys = keys
    this.staging = Array.from({ length: STAGED_FILES }, (_, index) => join(folder, `${index}.tar`))
    this.people = people
    this.robot = robot
  }

  static async create(roles: Record<string, Role | null>): Promise<BodyPeer> {
    const folder = await mkdtemp(join(tmpdir(), 'medulla-'))
    const people: Person[] = []
    for (const [name, role] of Object.entries(roles)) people.push(await makePerson(folder, name, role))
    const self = await makePerson(folder, 'robot', null)
    const noise = generateNoiseKey()
    const age = await generateAgeIdentity()
    const card = await issueCertificate(
      certificateOf('robot', 'testbot', self.signer, noise.public, { age: age.recipient }),
      self.signer,
    )
    const keys = { noise: Buffer.from(noise.secret).toString('hex'), age: age.identity }
    return new BodyPeer(folder, people, verifyCertificate(card), keys)
  }

  person(name: string): Person {
    const person = this.people.find((one) => one.name === name)
    if (!person) throw new Error(`no ${name}`)
    return person
  }

  get child(): ChildProcess {
    if (!this.#child) throw new Error('not started')
    return this.#child
  }

  /** The port it listens on. Rejects with what the endpoint said when it cannot serve. */
  async start(port = 0, env: Record<string, string> = {}): Promise<number> {
    this.messages.length = 0
    const server = createServer().listen({ port, host: '127.0.0.1' })
    await once(server, 'listening')
    const { port: bound } = server.address() as AddressInfo
    const { fd } = (server as unknown as { _handle: { fd: number } })._handle
    const staged = this.staging.map((path) => openSync(path, 'w', 0o600))
    const main = [process.execPath, join(built, 'runtime/endpoint/main.js')]
    const [command = '', ...args] = process.platform === 'linux' ? ['setpriv', '--no-new-privs', ...main] : main
    const child = spawn(command, args, {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe', fd, ...staged],
      env,
    })
    for (const one of staged) closeSync(one)
    server.close()
    this.#child = child
    const pipe = child.stdio[3] as Duplex
    this.#pipe = pipe
    child.stderr?.on('data', (chunk) => {
      this.log += chunk
    })
    for (const from of [pipe, child.stdio[4] as Duplex]) {
      const splitter = new LineSplitter()
      from.on('error', () => {})
      from.on('data', (chunk) => {
        for (const line of splitter.push(chunk)) this.#receive(EndpointMessage.parse(JSON.parse(line)), from)
      })
    }
    const { name, id } = this.robot
    this.send({
      op: 'config',
      confine: this.confine,
      keys: this.#keys,
      name,
      robot: id,
      version: '0.1.0',
    })
    const first = await eventually(() => this.messages.find(({ op }) => op === 'listening' || op === 'failed'))
    if (first.op === 'listening') return bound
    throw Object.assign(new Error(first.op === 'failed' ? first.message : ''), first)
  }

  send(message: BodyMessage | object): void {
    this.#pipe?.write(`${JSON.stringify(message)}\n`)
  }

  write(bytes: string): void {
    this.#pipe?.write(bytes)
  }

  of<Op extends EndpointMessage['op']>(op: Op): Extract<EndpointMessage, { op: Op }>[] {
    return this.messages.filter((one): one is Extract<EndpointMessage, { op: Op }> => one.op === op)
  }

  #receive(message: EndpointMessage, from: Duplex): void {
    this.messages.push(message)
    const { id } = message
    this.handler(message, (rest) => from.write(`${JSON.stringify({ ...rest, id })}\n`))
    if (message.op === 'who') {
      const { key, noise } = verifyCertificate(JSON.parse(message.cert) as SignedCertificate)
      const person = this.people.find(({ signer, role }) => role && signer.publicKey === key && noise === message.noise)
      const value = person ? { fingerprint: person.signer.fingerprint, role: person.role, name: person.name } : null
      this.send({ op: 'done', id, value })
    } else if (message.op === 'nonce') {
      this.send({ op: 'done', id, value: { nonce: 'fresh' } })
    } else if (message.op === 'signers') {
      const value = this.people
        .filter(({ role }) => role === 'owner' || role === 'operator')
        .map(({ signer }) => signer.publicKey)
      this.send({ op: 'done', id, value })
    }
  }

  async client(name: string, port: number): Promise<RobotClient> {
    const { noiseSecret, card, signer } = this.person(name)
    const who = { noiseSecret, cert: card, signer: async () => signer }
    return RobotClient.connect({ host: '127.0.0.1', port, ...who, robot: this.robot })
  }

  async bundle(signer: string, content = 'export {}\n', over: Partial<Parameters<typeof makeBundle>[2]> = {}) {
    const manifest = manifestOf()
    const files = [
      { name: 'buildinfo.json', bytes: Buffer.from('{}') },
      { name: 'manifest.json', bytes: encodeManifest(manifest) },
      { name: 'program.mjs', bytes: Buffer.from(content) },
    ]
    const robots = [{ id: this.robot.id, age: this.robot.age ?? '' }]
    return makeBundle(files, manifest, { signer: this.person(signer).signer, robots, counter: Date.now(), ...over })
  }

  /** Which files hold something. */
  async staged(): Promise<number[]> {
    const sizes = await Promise.all(this.staging.map(async (path) => (await stat(path)).size))
    return sizes.flatMap((size, index) => (size > 0 ? [index] : []))
  }

  async stop(): Promise<void> {
    this.#pipe?.destroy()
    const child = this.#child
    if (child && child.exitCode === null && child.signalCode === null) {
      await new Promise((resolve) => child.once('exit', resolve))
    }
  }

  async remove(): Promise<void> {
    await this.stop()
    await rm(this.folder, { recursive: true, force: true })
  }
}
