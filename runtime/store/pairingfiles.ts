/**
 * The files by which a person on the robot opens a pairing window and reads its code. Whoever may write the robot's home may do so:
 * `medulla pair --allow` writes a request, and the body answers with the code in a file that only its user and root can read.
 */
import { randomBytes } from 'node:crypto'
import { constants, readFileSync } from 'node:fs'
import { open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as z from 'zod'
import type { Role } from '../../deploy/shared/api.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { timeScale } from '../../deploy/shared/timescale.ts'
import { writeAtomic } from './atomic.ts'
import { holderOf } from './lock.ts'
import { isMissing } from './record.ts'

/** Both are in the folder `operators` of the home. */
export const REQUEST_FILE = 'pairing-request.json'
const CODE_FILE = 'pairing.json'
const MAX_REQUEST = 1000
/** For this long `medulla pair --allow` waits for the body. ms, before MEDULLA_TIME_SCALE */
const WAIT_MS = 10_000
const POLL_MS = 20

const Request = z.strictObject({
  nonce: z.string().regex(/^[0-9a-f]{32}$/),
  role: z.enum(['owner', 'operator', 'observer']).nullable(),
})
type Request = z.infer<typeof Request>

/** What a person on the robot is shown. */
export interface ShownCode {
  code: string
  /** ISO time by the robot's clock. */
  until: string
  tries: number
  /** Of the request that opened the window; null: the body opened it. */
  nonce: string | null
}

const inHome = (home: string, file: string): string => join(home, 'operators', file)

/** Takes the request out of the home. Null: there is none. Throws Error for a file that somebody else may have written. */
export async function takeRequest(home: string): Promise<Request | null> {
  const path = inHome(home, REQUEST_FILE)
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((error) => {
    if (isMissing(error)) return null
    throw error
  })
  if (file === null) return null
  try {
    const stat = await file.stat()
    const ours = stat.uid === 0 || stat.uid === process.getuid?.()
    if (!stat.isFile() || !ours || (stat.mode & 0o022) !== 0 || stat.size > MAX_REQUEST)
      throw new Error(`${path} is not a request of medulla pair --allow`)
    return Request.parse(JSON.parse(await file.readFile('utf8')))
  } finally {
    await file.close()
    await rm(path, { force: true })
  }
}

/** The files that show the code while a window is open. Changes run one after the other. */
export class CodeFiles {
  readonly #home: string
  readonly #others: readonly string[]
  readonly #failed: (problem: string) => void
  #last: Promise<unknown> = Promise.resolve()

  /** `others`: further files, in words for people, as one on the boot partition. */
  constructor(home: string, others: readonly string[], failed: (problem: string) => void) {
    this.#home = home
    this.#others = others
    this.#failed = failed
  }

  write(shown: ShownCode, words: string): void {
    this.#inTurn(() => writeAtomic(inHome(this.#home, CODE_FILE), `${JSON.stringify(shown)}\n`, 0o600))
    for (const path of this.#others) this.#inTurn(() => writeFile(path, `${words}\n`, { mode: 0o600 }))
  }

  remove(): void {
    for (const path of [inHome(this.#home, CODE_FILE), ...this.#others]) this.#inTurn(() => rm(path, { force: true }))
  }

  /** Resolves when everything asked for is done. */
  async settle(): Promise<void> {
    await this.#last
  }

  #inTurn(step: () => Promise<void>): void {
    this.#last = this.#last.then(step).catch((error: Error) => this.#failed(error.message))
  }
}

/** What the home shows of a window. Null: nothing, or this user may not read the file. */
export function readShownCode(home: string): ShownCode | null {
  try {
    return JSON.parse(readFileSync(inHome(home, CODE_FILE), 'utf8')) as ShownCode
  } catch {
    return null
  }
}

/** Asks the runtime that uses the home to open a window. Throws Refusal `not-running` and `body-away`. */
export async function requestWindow(home: string, role: Role | null): Promise<ShownCode> {
  const pid = await holderOf(join(home, 'lock'))
  if (pid === null) {
    const message = 'no runtime uses this home, so there is nothing to pair with'
    throw new Refusal('not-running', message, 'sudo systemctl start medulla, then: sudo medulla pair --allow')
  }
  const request: Request = { nonce: randomBytes(16).toString('hex'), role }
  await writeAtomic(inHome(home, REQUEST_FILE), `${JSON.stringify(request)}\n`, 0o644)
  const until = performance.now() + WAIT_MS * timeScale()
  while (performance.now() < until) {
    const shown = readShownCode(home)
    if (shown?.nonce === request.nonce) return shown
    await sleep(POLL_MS)
  }
  await rm(inHome(home, REQUEST_FILE), { force: true })
  const message = `the runtime, process ${pid}, opened no pairing window within ${WAIT_MS / 1000} s`
  throw new Refusal('body-away', message, 'sudo systemctl restart medulla, and read its log: journalctl -u medulla')
}
