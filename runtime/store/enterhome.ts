/**
 * Enters a robot's home for `medulla trust` and `medulla pair --allow`. Invariant: the command works in the folder that was checked: no symbolic link, and
 * writable only for the caller or root (test/runtime/store/enterhome.test.ts).
 */
import type { Stats } from 'node:fs'
import { access, constants, lstat, readFile, realpath } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { SignedCertificate } from '../../deploy/shared/cert.ts'
import { verifyCertificate } from '../../deploy/shared/cert.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { isMissing } from './record.ts'

const CARD = 'robot.json'
/** In hints. */
const COMMAND = 'medulla trust --home'
/** Checked in the home, if they exist; the `needed` ones must. */
const FILES: readonly { path: string; kind: 'file' | 'folder'; needed?: true }[] = [
  { path: CARD, kind: 'file', needed: true },
  { path: 'operators', kind: 'folder', needed: true },
  { path: 'operators/allowed_signers', kind: 'file' },
  { path: 'operators/roles.json', kind: 'file' },
  { path: 'operators/list.json', kind: 'file' },
  { path: 'operators/lock', kind: 'folder' },
]

/**
 * Makes the home the working directory of this process, so that its files can be named relative to it: Node has no openat(2),
 * and an absolute path could lead elsewhere when it is looked up again. Throws Refusal `not-found` when the folder is no robot's
 * home, and `unsafe-home`; its hint names `command`. Creates and changes nothing.
 */
export async function enterHome(dir: string, command: string = COMMAND): Promise<void> {
  try {
    await enter(dir)
  } catch (error) {
    if (!(error instanceof Refusal) || error.hint === undefined) throw error
    throw new Refusal(error.code, error.message, error.hint.replace(COMMAND, command), { cause: error })
  }
}

async function enter(dir: string): Promise<void> {
  const home = resolve(dir)
  const seen = await look(home, home)
  if (seen === null) throw noHome(home, 'there is no such folder')
  if (seen.isSymbolicLink()) {
    const real = await realpath(home).catch(() => 'DIR')
    throw new Refusal('unsafe-home', `${home} is a symbolic link`, `name the folder itself: --home ${real}`)
  }
  if (!seen.isDirectory()) throw noHome(home, 'it is not a folder')
  assertOurs(seen, home, home)
  try {
    process.chdir(home)
  } catch (cause) {
    throw closed(home, home, cause)
  }
  const here = await lstat('.')
  if (here.ino !== seen.ino || here.dev !== seen.dev) {
    throw new Refusal('unsafe-home', `${home} was replaced by another folder during the check`, 'find out by whom')
  }
  for (const { path, kind, needed } of FILES) {
    const stat = await look(path, home)
    if (stat === null) {
      if (needed) throw noHome(home, `there is no ${path}`)
      continue
    }
    if (!(kind === 'file' ? stat.isFile() : stat.isDirectory())) {
      const what = stat.isSymbolicLink() ? 'a symbolic link' : 'something else'
      throw new Refusal('unsafe-home', `${home}/${path} is ${what}, expected a ${kind}`, `ls -l ${home}`)
    }
    assertOurs(stat, `${home}/${path}`, home)
  }
  await assertRobot(home)
  await access('operators', constants.W_OK).catch((cause) => {
    throw closed(`${home}/operators`, home, cause)
  })
}

async function assertRobot(home: string): Promise<void> {
  try {
    const card = JSON.parse(await readFile(CARD, 'utf8')) as SignedCertificate
    if (verifyCertificate(card).subject === 'robot') return
  } catch (cause) {
    if (!(cause instanceof Refusal) && !(cause instanceof SyntaxError)) throw closed(`${home}/${CARD}`, home, cause)
  }
  throw noHome(home, `its ${CARD} is not the certificate of a robot`)
}

/** Null: there is no such file. */
async function look(path: string, home: string): Promise<Stats | null> {
  try {
    return await lstat(path)
  } catch (cause) {
    if (isMissing(cause)) return null
    throw closed(path === home ? home : `${home}/${path}`, home, cause)
  }
}

function assertOurs({ uid, mode }: Stats, path: string, home: string): void {
  const caller = process.getuid?.() ?? uid
  if (uid !== caller && uid !== 0) {
    const hint = `as its owner: sudo -u '#${uid}' medulla trust --home ${home}`
    throw new Refusal('unsafe-home', `${path} is owned by uid ${uid}, expected ${caller} or root`, hint)
  }
  if ((mode & 0o022) === 0) return
  const octal = (mode & 0o777).toString(8)
  throw new Refusal('unsafe-home', `${path} has mode ${octal}: others can write there`, `chmod go-w ${path}`)
}

function noHome(home: string, why: string): Refusal {
  return new Refusal(
    'not-found',
    `${home} is not a robot's home: ${why}`,
    `start the robot there once, which makes it: medulla runtime run --home ${home}`,
  )
}

function closed(path: string, home: string, cause: unknown): Refusal {
  const code = (cause as NodeJS.ErrnoException).code ?? String(cause)
  const hint = `as the owner of the home: sudo medulla trust --home ${home}`
  return new Refusal('unsafe-home', `${path} is not accessible to this user: ${code}`, hint, { cause })
}
