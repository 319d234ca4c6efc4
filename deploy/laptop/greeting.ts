/** What a robot answers without a session: its greeting and its certificate (CHANNEL 2.1, CHANNEL 2.6). */
import { request as httpRequest } from 'node:http'
import { type Greeting, PROTOCOL } from '../shared/api.ts'
import { LIMITS } from '../shared/bundle/limits.ts'
import type { SignedCertificate } from '../shared/cert.ts'
import { reasonOf, unreachable } from '../shared/channel/connect.ts'
import { Refusal } from '../shared/errors.ts'
import { NAME_PATTERN } from '../shared/names.ts'

const ID = /^SHA256:[A-Za-z0-9+/]{43}$/
const MAX_HEAD = 4096
const MAX_GREETING = 4096
/** In JSON, quotation marks within the certificate take two bytes. */
const MAX_CARD = 2 * LIMITS.certificate + LIMITS.signature

/** The robot's software and that of this laptop do not fit: one of the two is older. */
export class OtherVersion extends Refusal {
  constructor(where: string, name: string, protocol: string) {
    const message = `${name} at ${where} speaks ${protocol}, this laptop speaks ${PROTOCOL}`
    super('unreachable', message, 'install the same version of medulla on both')
  }
}

/**
 * Asks the robot at an address for its name and id. The answer is not authenticated: use it to find robots, not to trust
 * them.
 */
export async function greet(host: string, port: number, timeoutMs = 3000): Promise<Greeting> {
  const { text, refuse } = await ask({ host, port, path: '/', max: MAX_GREETING, timeoutMs })
  const greeting = parseGreeting(text)
  if (greeting === null) throw refuse('something else answers there')
  if (greeting.protocol === PROTOCOL) return { ...greeting, protocol: PROTOCOL }
  throw new OtherVersion(`${host}:${port}`, greeting.name, greeting.protocol)
}

/**
 * The certificate that the robot at an address shows to everybody. Nothing is verified: anybody can show the certificate of
 * another robot. Null: the robot is older than this command.
 */
export async function askCard(host: string, port: number, timeoutMs = 3000): Promise<SignedCertificate | null> {
  const { status, text, refuse } = await ask({ host, port, path: '/card', max: MAX_CARD, timeoutMs })
  if (status === 404) return null
  try {
    const { cert, sig } = JSON.parse(text) as Record<string, unknown>
    if (typeof cert === 'string' && typeof sig === 'string') return { cert, sig }
  } catch {
    // not JSON: refused below
  }
  throw refuse('it shows no certificate')
}

interface Asked {
  host: string
  port: number
  path: string
  /** characters of the answer */
  max: number
  timeoutMs: number
}
interface Answered {
  status: number
  text: string
  refuse(reason: string): Refusal
}

function ask({ host, port, path, max, timeoutMs }: Asked): Promise<Answered> {
  const refuse = (reason: string, cause?: unknown) => unreachable(`${host}:${port}`, reason, cause)
  return new Promise<Answered>((resolve, reject) => {
    const fail = (reason: string, cause?: unknown) => {
      request.destroy()
      reject(refuse(reason, cause))
    }
    const request = httpRequest({
      host,
      port,
      path,
      agent: false,
      timeout: timeoutMs,
      maxHeaderSize: MAX_HEAD,
    })
    const timer = setTimeout(() => fail(`no answer in ${timeoutMs} ms`), timeoutMs)
    request.on('error', (error) => fail(reasonOf(error), error))
    request.on('close', () => clearTimeout(timer))
    request.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('error', (error) => fail(error.message, error))
      response.on('data', (part: string) => {
        text += part
        if (text.length > max) fail('its answer is too long')
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text, refuse }))
    })
    request.end()
  })
}

function parseGreeting(text: string): (Omit<Greeting, 'protocol'> & { protocol: string }) | null {
  try {
    const { name, id, version, protocol } = JSON.parse(text) as Record<string, unknown>
    if (typeof name !== 'string' || typeof id !== 'string' || typeof version !== 'string') return null
    // shown to people, who would read the words of a stranger as ours (CHANNEL 2.1)
    if (!NAME_PATTERN.test(name) || !ID.test(id)) return null
    if (typeof protocol !== 'string' || !/^medulla\/\d{1,9}$/.test(protocol)) return null
    return { name, id, version, protocol }
  } catch {
    return null
  }
}
