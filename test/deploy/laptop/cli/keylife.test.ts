/** The whole life of the keys of a robot, with the built CLI: first owner, second owner, loss, recovery, rotation, revocation. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadSigner } from '../../../../deploy/shared/keys.ts'
import { eventually, SCALE } from '../../../e2e/eventually.ts'
import { bundle, RUNTIME } from '../../../e2e/programs.ts'
import { boardText } from '../../../e2e/robot.ts'
import { type Ended, Laptop } from './medulla.ts'

const KEY_TEXT = /^ {4}((?:[0-9A-Z]{4}-){6}[0-9A-Z]{4})$/m

/** The laptops of four people; each is an own config folder. */
const [ann, bob, cas, dan] = [new Laptop(), new Laptop(), new Laptop(), new Laptop()]
let home: string
let port: number
let runtime: ChildProcess

beforeAll(async () => {
  home = join(ann.dir, 'robot')
  mkdirSync(home, { mode: 0o700 })
  writeFileSync(join(home, 'board.json'), boardText())
  await begin()
})
afterAll(async () => {
  runtime?.kill('SIGKILL')
  for (const laptop of [ann, bob, cas, dan]) await laptop?.close()
})

async function begin(): Promise<void> {
  const args = ['--home', home, '--sim', '--name', 'arm', '--port', String(port ?? 0)]
  runtime = spawn(process.execPath, [RUNTIME, ...args], { stdio: ['ignore', 'pipe', 'ignore'] })
  const [line] = (await once(runtime.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
  port = JSON.parse(String(line)).port
}

async function done(command: Promise<Ended>): Promise<Ended> {
  const ended = await command
  expect(ended.status, ended.stdout + ended.stderr).toBe(0)
  return ended
}

/** Expects a refusal; returns what the command said. */
async function refused(command: Promise<Ended>): Promise<string> {
  const { status, stdout, stderr } = await command
  expect(status, stdout + stderr).toBeGreaterThan(0)
  return stdout + stderr
}

/** Makes a key for the laptop, and returns the file of its card and the fingerprint of its key. */
async function keyOf(laptop: Laptop, name: string): Promise<{ file: string; id: string }> {
  await done(laptop.run('keygen', '--comment', name))
  const { stdout } = await done(laptop.run('trust', '--export'))
  const file = join(laptop.dir, `${name}.json`)
  writeFileSync(file, stdout)
  return { file, id: (await loadSigner(join(laptop.dir, 'config/id_ed25519'))).fingerprint }
}

const robotOf = (laptop: Laptop) => laptop.run('trust', 'arm', `127.0.0.1:${port}`, '--card', join(home, 'robot.json'))
const typed = (laptop: Laptop, text: string, ...args: string[]) => laptop.start(args, {}, text).ended
const textIn = ({ stdout }: Ended): string => KEY_TEXT.exec(stdout)?.[1] ?? ''

/** All bytes of the robot's home. */
function everything(): string {
  return readdirSync(home, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => contentOf(join(entry.parentPath, entry.name)).toUpperCase())
    .join('\n')
}

/** Empty for a temporary file that was renamed meanwhile. */
function contentOf(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}

async function status(laptop: Laptop): Promise<boolean> {
  return (await laptop.run('status', '-d', 'arm')).status === 0
}

const knownKeys = (laptop: Laptop) => {
  const { robots } = JSON.parse(readFileSync(join(laptop.dir, 'config/robots.json'), 'utf8'))
  return JSON.parse(robots.arm.card.cert) as { noise: string; age: string; key: string }
}

/** Some 60 commands, each a process: on a busy machine, more than the usual limit. */
const LONG = { timeout: 400_000 * SCALE }

test('V15: HANDOVER 19: first owner, second owner, loss, recovery, rotation, revocation', LONG, async () => {
  // The first owner: the recovery key is shown once, and the robot keeps no part of it.
  const lost = await keyOf(ann, 'ann')
  const trusted = await done(ann.run('trust', '--home', home, lost.file, '--name', 'ann'))
  const paper = textIn(trusted)
  expect(paper).not.toBe('')
  for (const group of paper.split('-')) expect(everything()).not.toContain(group)
  expect(textIn(await done(ann.run('trust', '--home', home, lost.file)))).toBe('')
  await done(robotOf(ann))
  await eventually(() => status(ann))

  // A program runs through all that follows.
  const known = knownKeys(ann)
  const id = String((await ann.json('keys')).events[0]?.id)
  const signer = await loadSigner(join(ann.dir, 'config/id_ed25519'))
  const made = await bundle('counter', signer, { id, age: known.age })
  writeFileSync(join(ann.dir, 'counter.medulla'), made.bytes)
  await done(ann.run('push', 'counter.medulla'))
  const pid = async (laptop: Laptop) => {
    const slots = (await laptop.json('status', '-d', 'arm')).events[0]?.slots as { pid?: number }[] | undefined
    return slots?.[0]?.pid
  }
  const running = await pid(ann)
  expect(running).toEqual(expect.any(Number))

  // The second owner.
  const second = await keyOf(bob, 'bob')
  await done(ann.run('operators', 'add', second.file, '--role', 'owner', '--name', 'bob'))
  await done(robotOf(bob))
  const helper = await keyOf(dan, 'dan')
  await done(bob.run('operators', 'add', helper.file, '--name', 'dan'))
  await done(robotOf(dan))

  // The first laptop is lost: its key is revoked, also for the case that somebody adds it again.
  expect((await done(bob.run('operators', 'revoke', 'ann'))).stdout).toBe(`ann is revoked: ${lost.id}\n`)
  expect(await status(ann)).toBe(false)
  expect(await refused(bob.run('operators', 'add', lost.file))).toContain('was revoked on this robot')
  expect(await refused(ann.run('trust', '--home', home, lost.file))).toContain('was revoked on this robot')

  // All owners have lost their keys. A recovery with a wrong text changes nothing.
  const third = await keyOf(cas, 'cas')
  // this laptop never knew the robot: it asks for its card, and the person compares the id
  expect(await refused(cas.run('trust', 'arm', `127.0.0.1:${port}`, '--id', third.id))).toContain('belongs to')
  await done(cas.run('trust', 'arm', `127.0.0.1:${port}`, '--id', id))
  const wrong = paper.replace(/^./, (first) => (first === '7' ? '8' : '7'))
  expect(await refused(typed(cas, wrong, 'recover', '-d', 'arm'))).toMatch(/check sum|did not accept/)
  expect(await refused(cas.run('recover', '-d', 'arm', paper))).toContain('on the command line is refused')
  expect(await status(cas)).toBe(false)
  const recovery = ['recover', '-d', 'arm', '--name', 'cas', '--revoke', 'bob', '--revoke', lost.id]
  const recovered = await done(typed(cas, `${paper}\n`, ...recovery))
  expect(recovered.stdout).toContain(`cas is owner of arm now: ${third.id}`)
  expect(recovered.stdout).toContain(`revoked: bob ${second.id}`)
  expect(recovered.stdout).toMatch(/dan +operator +SHA256:/)
  const next = textIn(recovered)
  expect(next).not.toBe(paper)
  expect(await status(bob)).toBe(false)
  expect(await status(cas)).toBe(true)
  expect(await refused(typed(bob, paper, 'recover', '-d', 'arm'))).toContain('did not accept this recovery key')

  // An owner replaces a recovery key that others have seen.
  const newest = textIn(await done(cas.run('recover', '--new')))
  expect(newest).not.toBe(next)
  expect(await refused(typed(bob, next, 'recover', '-d', 'arm'))).toContain('did not accept this recovery key')

  // The robot gets new keys. Nobody sees a changed key, and a bundle from before can still be opened.
  const before = await knownKeys(dan)
  await done(cas.run('keys', 'rotate', '-d', 'arm'))
  expect(knownKeys(cas)).toMatchObject({ key: before.key })
  expect(knownKeys(cas).noise).not.toBe(before.noise)
  expect(knownKeys(cas).age).not.toBe(before.age)
  // the command has waited for the robot
  const asked = await done(dan.run('status', '-d', 'arm'))
  expect(asked.stderr).toContain('arm has new keys, signed by the identity that this laptop knows')
  expect(knownKeys(dan)).toEqual(knownKeys(cas))
  expect((await done(dan.run('status', '-d', 'arm'))).stderr).toBe('')
  expect(existsSync(join(home, 'endpoint/retired.json'))).toBe(true)
  expect(await refused(dan.run('keys', 'rotate', '-d', 'arm'))).toContain('expected role owner')

  // The owner's own key is replaced. The old one is revoked, and the robot keeps her name and role.
  const rotated = await done(cas.run('operators', 'rotate'))
  expect(rotated.stdout).toMatch(/^arm: cas is owner with the key SHA256:.*; the old key is revoked$/m)
  expect(await status(cas)).toBe(true)
  const old = ['--key', join(cas.dir, 'config/id_ed25519')]
  expect((await cas.run('status', '-d', 'arm', ...old)).status).not.toBe(0)
  const to = join(dan.dir, 'config/another')
  await done(dan.run('operators', 'rotate', '-d', 'arm', '--to', to))
  expect(existsSync(to)).toBe(true)
  expect(await status(dan)).toBe(true)

  // A restart forgets nothing of this, and the program never ended before.
  expect(await pid(cas)).toBe(running)
  const gone = once(runtime, 'exit')
  runtime.kill('SIGTERM')
  await gone
  await begin()
  await eventually(() => status(cas))
  expect(await status(ann)).toBe(false)
  expect(await status(bob)).toBe(false)
  expect(await refused(cas.run('operators', 'add', second.file))).toContain('was revoked on this robot')
  for (const text of [paper, next, newest]) expect(everything()).not.toContain(text.replaceAll('-', ''))

  // The signed log of the robot tells all of it.
  const { events } = await cas.json('receipts')
  const reasons = events.map(({ reason }) => String(reason)).filter((reason) => reason.includes('of the list'))
  expect(
    reasons.map((reason) => reason.replace(/; change \d+ of the list$/, '').replace(/SHA256:[\w+/]{43}/g, 'ID')),
  ).toEqual([
    'operator bob (ID): owner',
    'operator dan (ID): operator',
    'key ID of ann: revoked',
    'recovery key used: cas (ID) is owner; revoked: bob, ID; next recovery key: ID',
    'recovery key: now ID',
    'operator cas: new key ID, the old one is revoked',
    'operator dan: new key ID, the old one is revoked',
  ])
  await done(cas.run('receipts', '--verify'))
})
