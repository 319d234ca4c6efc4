/**
 * Answers the endpoint's messages. Invariant: the endpoint is treated as hostile: its messages are bounded and parsed, one
 * outside the protocol ends it, and its death touches no program (HANDOVER 8.1, 8.3; test/e2e/endpoint.test.ts).
 */
import type { ChildProcess } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { type EndpointReport, PROTOCOL } from '../../../deploy/shared/api.ts'
import type { SignedCertificate } from '../../../deploy/shared/cert.ts'
import { REFUSAL_CODES, Refusal, type RefusalCode } from '../../../deploy/shared/errors.ts'
import { timeScale } from '../../../deploy/shared/timescale.ts'
import { boardReport } from '../../board.ts'
import { type BodyMessage, EndpointMessage, IPC_MAX_LINE } from '../../ipc.ts'
import { Backoff } from '../../plumbing/backoff.ts'
import { Budget, ENDPOINT_ALLOWANCE } from '../../plumbing/budget.ts'
import { readLines } from '../../plumbing/lines.ts'
import { type EndpointKeys, readEndpointKeys } from '../../store/home.ts'
import type { Body } from '../body.ts'
import { OrderExecutor } from '../orders/execute.ts'
import type { Installer } from '../orders/installer.ts'
import { onExit } from '../sandbox/reaper.ts'
import type { RuntimeUpdates } from '../update/updates.ts'
import { Announcer } from './announcer.ts'
import { type EndpointProcess, startEndpoint } from './endpointprocess.ts'
import { EndpointWatch } from './endpointwatch.ts'
import { EndpointPeer } from './peer.ts'
import { NOT_READ, sendLog } from './sendlog.ts'

/** A followed stream is ended when this many bytes wait to be sent. */
const MAX_BEHIND = 4 * 1024 * 1024

export interface EndpointEvents {
  /** Called once: later endpoints have the same port. */
  listening(port: number): void
  /** An endpoint has ended, or was not started; another one will be. */
  ended(): void
  /** The endpoint cannot serve, and trying again would not help. */
  failed(refusal: Refusal): void
  note(level: 'info' | 'warn' | 'error', text: string): void
}

export interface SavedEndpoint {
  readonly port: number
  readonly pid: number | null
}

export class EndpointLink {
  readonly #body: Body
  readonly #installer: Installer
  readonly #orders: OrderExecutor
  readonly #updates: RuntimeUpdates
  readonly #events: EndpointEvents
  readonly #backoff = new Backoff(200, 10_000)
  readonly #watch = new EndpointWatch(timeScale())
  /** Null: this robot is not announced. */
  readonly #announcer: Announcer | null
  #starting: Promise<void>
  #child: ChildProcess | null = null
  #port: number
  #report: EndpointReport = { user: null, sandbox: 'none', seccomp: false }
  /** An endpoint was started before: its address can be bound. */
  #hasStarted = false
  #announced = false
  #isServing = false
  #closed = false

  /** `left`: the endpoint of the runtime that this one replaces, which was killed (HANDOVER 18.6). */
  constructor(body: Body, updates: RuntimeUpdates, installer: Installer, events: EndpointEvents, left?: SavedEndpoint) {
    this.#body = body
    this.#updates = updates
    this.#installer = installer
    this.#orders = new OrderExecutor(body, installer, updates, {
      operatorsChanged: () => this.operatorsChanged(),
      keysChanged: () => this.kill(),
    })
    this.#events = events
    this.#announcer = this.#openAnnouncer()
    this.#port = left?.port ?? body.options.port
    this.#hasStarted = this.#announced = left !== undefined
    if (left?.pid != null) onExit(left.pid)
    body.pairing.onChange(() => this.#tell({ op: 'pairing', open: body.pairing.isOpen }))
    this.#starting = this.#launch()
  }

  /** The list of operators has changed: the endpoint checks its sessions again. */
  operatorsChanged(): void {
    this.#tell({ op: 'operators' })
  }

  #tell(message: BodyMessage): void {
    const socket = this.#child?.stdio[3] as Duplex | undefined
    socket?.write(`${JSON.stringify(message)}\n`)
  }

  /** Whether the robot can be reached now. */
  get isServing(): boolean {
    return this.#isServing
  }

  /** How late the body is with replacing an endpoint that is silent or has ended, in ms. */
  get lateMs(): number {
    return this.#watch.lateMs
  }

  save(): SavedEndpoint {
    return { port: this.#port, pid: this.#child?.pid ?? null }
  }

  /** The runtime is being replaced, and the port is free for the next one's endpoint; or the endpoint gets new keys. */
  kill(): void {
    this.#child?.kill('SIGKILL')
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#announcer?.close()
    this.#watch.close()
    await this.#starting
    const child = this.#child
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
  }

  /** A robot is reached by its address all the same when it cannot be announced. */
  #openAnnouncer(): Announcer | null {
    const { discovery = null, listener, host } = this.#body.options
    try {
      return Announcer.open(discovery, listener !== undefined, host)
    } catch (error) {
      this.#events.note('warn', `this robot is not announced by multicast DNS: ${(error as Error).message}`)
      return null
    }
  }

  #announce(): void {
    const { home, options } = this.#body
    const { name, id } = home
    this.#announcer?.begin({ name, id, version: options.version, protocol: PROTOCOL, port: this.#port })
  }

  async #launch(): Promise<void> {
    const { host, listener = null } = this.#body.options
    const discovery = this.#announcer?.fd ?? null
    this.#watch.expectStart(0)
    const { own, why, release } = this.#body.sandboxes.takeEndpoint()
    // As root, the endpoint should have a user of its own (HANDOVER 8.13).
    if (why !== null) this.#events.note('warn', `the endpoint runs as root: ${why}`)
    try {
      const keys = await readEndpointKeys(this.#body.home)
      const started = await startEndpoint({
        folder: this.#body.endpointFolder,
        host,
        port: this.#port,
        own,
        listener,
        discovery,
      })
      started.child.once('exit', release)
      this.#serve(started, keys)
    } catch (error) {
      release()
      this.#notStarted(error as NodeJS.ErrnoException)
    }
  }

  /** An address that cannot be bound at the first start ends the body; after any other failure the start is tried again. */
  #notStarted({ code, syscall, message }: NodeJS.ErrnoException): void {
    if (this.#closed) return
    if (this.#hasStarted || (syscall !== 'listen' && syscall !== 'getaddrinfo')) {
      this.#events.note('error', `the endpoint was not started: ${message}`)
      return this.#restartLater()
    }
    this.#closed = true
    this.#watch.close()
    const used = code === 'EADDRINUSE'
    const hint = used ? 'choose another one with --port, or stop what uses it' : 'choose others with --host and --port'
    this.#events.failed(new Refusal(used ? 'port-in-use' : 'usage', message, hint))
  }

  #serve({ child, link, urgent, channels, port, confine, report }: EndpointProcess, keys: EndpointKeys): void {
    this.#child = child
    this.#port = port
    this.#report = report
    this.#hasStarted = true
    const hostile = (why: string) => {
      if (child.killed) return
      this.#events.note('error', `endpoint ended: ${why}`)
      child.kill('SIGKILL')
    }
    child.once('error', (error) => {
      this.#events.note('error', `endpoint: ${error.message}`)
      if (child.pid === undefined) this.#restartLater()
    })
    const peer = new EndpointPeer(link, hostile, channels)
    // Stops have a pipe of their own without a budget (HANDOVER 8.8): they are few, because each waits for its answer.
    const stops = new EndpointPeer(urgent, hostile)
    this.#watch.begin({
      ask: () => peer.send({ op: 'ping' }),
      silent: (ms) => hostile(`it gave no answer for ${ms} ms`),
    })
    child.once('exit', () => {
      peer.end()
      this.#isServing = false
      this.#restartLater()
    })
    let listening = false
    const read = (from: EndpointPeer, known: (op: EndpointMessage['op']) => boolean, budget: Budget | null) =>
      readLines(
        from.socket,
        IPC_MAX_LINE,
        (line) => {
          const message = parse(line)
          if (message === null || !known(message.op)) return hostile('it sent a message that is not in the protocol')
          if (message.op === 'failed' && listening)
            return hostile('it reported that it cannot serve after it had served')
          listening ||= message.op === 'listening'
          this.#watch.heard()
          void this.#answer(message, from)
        },
        () => hostile('it sent an endless line'),
        budget,
      )
    read(peer, () => true, new Budget(ENDPOINT_ALLOWANCE))
    read(stops, (op) => op === 'stop' || op === 'estop', null)
    const { home, options, pairing } = this.#body
    const { name, id: robot, card } = home
    const discovery = this.#announcer === null ? {} : { discovery: true as const }
    peer.send({ op: 'config', confine, keys, card, name, robot, version: options.version, ...discovery })
    if (pairing.isOpen) peer.send({ op: 'pairing', open: true })
  }

  #restartLater(): void {
    this.#isServing = false
    if (this.#closed) return
    this.#events.ended()
    const wait = this.#backoff.nextMs()
    this.#watch.expectStart(wait)
    this.#events.note('warn', `the endpoint ended; starting a new one in ${wait} ms`)
    setTimeout(() => {
      if (!this.#closed) this.#starting = this.#launch()
    }, wait)
  }

  async #answer(message: EndpointMessage, peer: EndpointPeer): Promise<void> {
    const { id } = message
    const item = (value: unknown) => peer.send({ op: 'item', id, item: value })
    const done = (value?: unknown) => peer.send(value === undefined ? { op: 'done', id } : { op: 'done', id, value })
    /** Sends an item of a followed stream. A stream whose reader is too slow is ended; the others go on. */
    const follow = (value: unknown) => {
      if (peer.socket.writableLength <= MAX_BEHIND) return item(value)
      if (!peer.follows(id)) return
      peer.cancel(id)
      peer.fail(id, NOT_READ)
    }
    try {
      switch (message.op) {
        case 'listening':
          this.#backoff.reset()
          this.#isServing = true
          this.#announce()
          if (!this.#announced) this.#events.listening(this.#port)
          this.#announced = true
          return
        case 'pong':
          return
        case 'asked':
          return this.#announcer?.asked()
        case 'failed':
          this.#closed = true
          this.#watch.close()
          return this.#events.failed(new Refusal(asCode(message.code), message.message))
        case 'cancel':
          return peer.cancel(id)
        case 'install':
          await this.#installer.install(message, item)
          return done()
        case 'install-runtime':
          await this.#updates.install(message, item)
          return done()
        case 'operators':
          return done(this.#body.operators.now.report())
        case 'nonce':
          return done({ nonce: this.#body.orders.nonce(), list: this.#body.operators.now.state.counter })
        case 'order': {
          await this.#orders.carryOut(message.signed, item)
          return done()
        }
        case 'refused':
          await this.#installer.refused(
            message.slot,
            message.pusher,
            new Refusal(asCode(message.code), message.message),
            null,
          )
          return
        case 'stop':
          item(await this.#orders.stop(message.slot, message.pusher))
          return done()
        case 'estop':
          item(await this.#body.emergency.stop('an operator', message.pusher))
          return done()
        case 'status':
          return done({ ...this.#body.status(), endpoint: this.#report, runtime: this.#updates.report() })
        case 'releases':
          return done(await this.#body.releases.list(this.#body.known(message.slot).name))
        case 'bundle':
          return done(
            await this.#body.releases.piece(this.#body.known(message.slot).name, message.part, message.offset),
          )
        case 'counter':
          return done(this.#body.releases.counterRange(message.kind, message.program))
        case 'params':
          return done(await this.#orders.params(message.slot))
        case 'config-values':
          return done(await this.#body.config.report())
        case 'board':
          return done(boardReport(this.#body.board))
        case 'who':
          return done(this.#body.operators.now.who(parseCertificate(message.cert), message.noise))
        case 'pair-card':
        case 'pair-share':
        case 'pair-confirm':
          return done(await this.#body.pairing.answer(message))
        case 'signers':
          return done([...this.#body.operators.now.signers(), ...this.#body.delegations.signers()])
        case 'receipts':
          await peer.answerLong(id, () => this.#body.receipts.read(message.limit))
          return done()
        case 'logs':
          return await sendLog(this.#body, peer, message, follow)
        case 'channel': {
          const { connection, leave } = this.#body.known(message.slot).connect(() => {
            peer.cancel(id)
            done()
          })
          peer.follow(id, leave)
          peer.pass(connection)
          return item(null)
        }
        case 'spare':
          this.#body.known(message.slot)
          peer.follow(id, this.#body.spares.hold(message.slot, item))
          return
        case 'pins':
          for (const pin of this.#body.pins.present(message.names)) item(pin)
          if (!message.follow) return done()
          peer.follow(
            id,
            this.#body.pins.onChange(({ changed, accepted, ...pin }) => {
              if (changed && accepted && message.names?.includes(pin.name) !== false) follow(pin)
            }),
          )
          return
      }
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal('internal', 'the runtime failed')
      if (refusal !== error) this.#events.note('error', String(error instanceof Error ? error.stack : error))
      peer.cancel(id)
      peer.fail(id, refusal)
    }
  }
}

function parse(line: string): EndpointMessage | null {
  try {
    const parsed = EndpointMessage.safeParse(JSON.parse(line))
    return parsed.success ? parsed.data : null
  } catch {
    return null
  }
}

function parseCertificate(text: string): SignedCertificate {
  try {
    return JSON.parse(text) as SignedCertificate
  } catch {
    throw new Refusal('unknown-format', 'expected a certificate as JSON')
  }
}

const asCode = (code: string): RefusalCode => REFUSAL_CODES.find((known) => known === code) ?? 'internal'
