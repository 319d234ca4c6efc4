/**
 * What `inspect`, `verify` and `rebuild` look at: a bundle file, its opened content, or the bundle that a robot runs. This
 * laptop has an age key of its own, to which `medulla build` seals its files, too.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Option } from 'commander'
import type { Inner } from '../../shared/bundle/inner.ts'
import { Refusal } from '../../shared/errors.ts'
import type { Inspected } from '../provenance/opened.ts'
import type { App, Globals } from './app.ts'
import { withRobot } from './robot.ts'

/** Options of every command that opens a bundle. */
export interface SubjectOptions {
  identity?: string
  slot?: string
}

export interface Subject extends Inspected {
  /** the file, or `robot/slot` */
  where: string
  /** what the robot's check of its stored files took at the last start (HANDOVER 9.13), in ms */
  checkMs?: number
}

export const identityOption = (): Option =>
  new Option(
    '-i, --identity <file>',
    'age key of a robot that the bundle is sealed to (default: the key of this laptop)',
  )
export const slotOption = (): Option => new Option('--slot <slot>', 'with -d: the bundle of this slot').default('main')

const keyFile = (dir: string): string => join(dir, 'age.key')

/** The age recipient of this laptop; its key is made at the first use. */
export async function readerOf(dir: string): Promise<string> {
  const { ensureSecretFile, generateAgeIdentity } = await import('../../shared/keys.ts')
  const { identityToRecipient } = await import('age-encryption')
  const file = await ensureSecretFile(keyFile(dir), async () => `${(await generateAgeIdentity()).identity.trim()}\n`)
  return identityToRecipient(identityIn(file.toString('latin1')))
}

/** The secret in an age key file, which may hold comments. */
function identityIn(text: string): string {
  const found = text.split('\n').find((line) => line.startsWith('AGE-SECRET-KEY-'))
  if (found === undefined) throw new Refusal('no-key', 'the file holds no age key: a line with AGE-SECRET-KEY-1…')
  return found.trim()
}

/** The bundle that `path` names, or (without a path) the one that the robot of -d runs, with every hash checked. */
export async function openSubject(
  app: App,
  path: string | undefined,
  options: SubjectOptions,
  globals: Globals,
): Promise<Subject> {
  const { inspectBundle, inspectStored, unseal } = await import('../provenance/opened.ts')
  if (path === undefined) {
    const { stored, ...about } = await fromRobot(app, options, globals)
    return { ...about, ...(await inspectStored(stored)) }
  }
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new Refusal('usage', `cannot read ${path}: ${cause.message}`, undefined, { cause })
  })
  return { where: path, ...(await inspectBundle(await unseal(bytes, await identities(app, options)))) }
}

async function fromRobot(
  app: App,
  { slot = 'main' }: SubjectOptions,
  globals: Globals,
): Promise<Pick<Subject, 'where' | 'checkMs'> & { stored: Inner & { digest: string } }> {
  const { checkSlot } = await import('./pushing.ts')
  return withRobot(app, globals, async (client, robot) => {
    const where = `${robot.name}/${checkSlot(slot)}`
    app.term.progress(`reading the bundle of ${where}`)
    const stored = await client.bundle(slot).catch((error: unknown) => {
      if (!(error instanceof Refusal) || error.message !== 'no such route') throw error
      const hint = 'put this version of medulla on the robot'
      throw new Refusal('not-found', `the runtime of ${robot.name} is older than this command`, hint, { cause: error })
    })
    const running = (await client.status()).slots.find((each) => each.slot === slot && each.digest === stored.digest)
    return { where, stored, ...(running?.checkMs === undefined ? {} : { checkMs: running.checkMs }) }
  })
}

/** The age keys of --identity, or of this laptop. */
export async function identities(app: App, { identity }: SubjectOptions): Promise<string[]> {
  if (identity === undefined) {
    const own = await readFile(keyFile(app.dir), 'latin1').catch(() => null)
    return own === null ? [] : [identityIn(own)]
  }
  const text = await readFile(identity, 'latin1').catch((cause: NodeJS.ErrnoException) => {
    throw new Refusal('no-key', `cannot read ${identity}: ${cause.message}`, undefined, { cause })
  })
  return [identityIn(text)]
}
