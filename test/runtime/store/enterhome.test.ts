/** `medulla trust --home`: into whose home it goes, and what it leaves alone. The command is the built one. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { generateKey } from '../../../deploy/shared/keys.ts'
import { openHome } from '../../../runtime/store/home.ts'
import { Laptop } from '../../deploy/laptop/cli/medulla.ts'
import { RUNTIME } from '../../e2e/programs.ts'
import { run } from '../../e2e/robot.ts'

const laptop = new Laptop()
const isRoot = process.getuid?.() === 0
const OTHER = 65_534

let home: string
let homes = 0

beforeAll(async () => {
  await laptop.run('keygen')
  writeFileSync(join(laptop.dir, 'me.json'), (await laptop.run('trust', '--export')).stdout)
})
beforeEach(async () => {
  home = join(laptop.dir, `home-${++homes}`)
  await (await openHome(home)).close()
})
afterAll(() => laptop.close())

interface Answer {
  status: number | null
  name?: string
  role?: string
  error?: { code: string; message: string; hint: string }
}

/** The robot's half of `medulla trust --home`. */
async function trust(dir: string, file = 'me.json', ...more: string[]): Promise<Answer> {
  const card = join(laptop.dir, file)
  const { status, stdout } = await run(RUNTIME, ['trust', '--home', dir, '--card', card, ...more])
  return { status, ...(JSON.parse(stdout) as object) }
}
const list = (dir = home): string => readFileSync(join(dir, 'operators/allowed_signers'), 'utf8')

async function refused(dir: string, message: RegExp, hint: RegExp): Promise<void> {
  const { status, error } = await trust(dir)
  expect(status).toBe(3)
  expect(error).toMatchObject({ message: expect.stringMatching(message), hint: expect.stringMatching(hint) })
  expect(error?.code).toMatch(/^(not-found|unsafe-home)$/)
}

test('what is no home of a robot is refused, and no robot is made of it', async () => {
  const none = join(laptop.dir, 'none')
  await refused(none, /none is not a robot's home: there is no such folder$/, /medulla runtime run --home .*none$/)
  const { status, stderr } = await laptop.run('trust', '--home', none, 'me.json')
  expect(status).toBe(3)
  expect(stderr).toMatch(/^medulla: error: .*none is not a robot's home: .*\nmedulla: hint: start the robot there once/)
  expect(existsSync(none)).toBe(false)
  mkdirSync(none)
  await refused(none, /not a robot's home: there is no robot\.json$/, /medulla runtime/)
  expect(readdirSync(none)).toEqual([])
  await refused(join(laptop.dir, 'me.json'), /not a robot's home: it is not a folder$/, /medulla runtime/)
  writeFileSync(join(home, 'robot.json'), readFileSync(join(laptop.dir, 'me.json')))
  await refused(home, /its robot\.json is not the certificate of a robot$/, /medulla runtime/)
  expect(list()).toBe('')
})

test('a home that is a link, and links in it, are refused, and where they lead nothing changes', async () => {
  const link = join(laptop.dir, 'link')
  symlinkSync(home, link)
  await refused(link, /link is a symbolic link$/, new RegExp(`--home .*${home.split('/').at(-1)}$`))
  await refused(`${link}/`, /link is a symbolic link$/, /--home/)
  const aside = join(laptop.dir, 'aside')
  renameSync(join(home, 'operators'), aside)
  symlinkSync(aside, join(home, 'operators'))
  await refused(home, /operators is a symbolic link, expected a folder$/, /ls -l/)
  rmSync(join(home, 'operators'))
  renameSync(aside, join(home, 'operators'))
  for (const [name, kind] of [
    ['allowed_signers', 'file'],
    ['roles.json', 'file'],
    ['lock', 'folder'],
  ]) {
    const [path, away] = [join(home, 'operators', name ?? ''), join(laptop.dir, `away-${name}`)]
    if (existsSync(path)) renameSync(path, away)
    symlinkSync(away, path)
    await refused(home, new RegExp(`${name} is a symbolic link, expected a ${kind}$`), /ls -l/)
    rmSync(path)
    if (existsSync(away)) renameSync(away, path)
  }
  expect(list()).toBe('')
  expect(await trust(home)).toMatchObject({ status: 0, role: 'owner' })
})

test('a home, or a list in it, in which others can write is refused', async () => {
  const paths = ['', 'robot.json', 'operators', 'operators/allowed_signers', 'operators/roles.json']
  for (const path of paths.map((each) => join(home, each))) {
    const mode = path.endsWith('json') || path.endsWith('signers') ? 0o644 : 0o700
    chmodSync(path, mode | 0o020)
    await refused(home, /has mode (720|664): others can write there$/, new RegExp(`chmod go-w ${path}$`))
    chmodSync(path, mode)
  }
  expect(list()).toBe('')
})

test.runIf(isRoot)('a home, or a list in it, of another user is refused, to root too', async () => {
  for (const path of ['', 'robot.json', 'operators', 'operators/allowed_signers', 'operators/roles.json']) {
    chownSync(join(home, path), OTHER, OTHER)
    await refused(home, /is owned by uid 65534, expected 0 or root$/, /^as its owner: sudo -u '#65534' medulla trust/)
    chownSync(join(home, path), 0, 0)
  }
  expect(list()).toBe('')
})

test.runIf(isRoot).each(['root', 'another user'])(
  'a pid in the lock of the home, written by %s, gets no signal',
  async (who) => {
    const victim = spawn('/bin/sh', ['-c', "trap 'echo HUP' HUP; echo up; while :; do sleep 0.05; done"], {
      stdio: 'pipe',
    })
    let said = ''
    victim.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    await once(victim.stdout, 'data')
    const stat = readFileSync(`/proc/${victim.pid}/stat`, 'utf8')
    const start = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    const file = join(home, 'lock', '999')
    writeFileSync(file, JSON.stringify({ pid: victim.pid, start, boot, nonce: 'x', released: false }))
    if (who !== 'root') for (const path of [join(home, 'lock'), file]) chownSync(path, OTHER, OTHER)
    expect(await trust(home)).toMatchObject({ status: 0, role: 'owner' })
    // a signal that was sent is handled before one that is sent after it
    victim.kill('SIGTERM')
    await once(victim, 'close')
    expect(said).toBe('up\n')
  },
)

test('an operator needs a name, and has it alone', async () => {
  const write = (file: string, text: string) => writeFileSync(join(laptop.dir, file), text)
  expect(await trust(home, 'me.json', '--name', 'ann')).toMatchObject({ name: 'ann', role: 'owner' })
  // a key that is known keeps its name
  const pub = readFileSync(join(laptop.dir, 'config/id_ed25519.pub'), 'utf8')
  write('key.pub', pub.split(' ').slice(0, 2).join(' '))
  expect(await trust(home, 'key.pub', '--role', 'owner')).toMatchObject({ name: 'ann' })
  const { publicKey, fingerprint } = await generateKey(join(laptop.dir, 'other'), 'other')
  write('other.pub', `${publicKey} Ann\n`)
  write('nameless.pub', publicKey)
  write('broken.json', '{"cert":')
  const before = list()
  const hint = expect.stringMatching(/--name NAME$/)
  expect((await trust(home, 'nameless.pub')).error).toEqual({
    code: 'usage',
    message: `the key ${fingerprint} has no name`,
    hint,
  })
  expect((await trust(home, 'other.pub')).error).toEqual({
    code: 'usage',
    message: expect.stringMatching(/^'Ann' is the name of another operator, SHA256:/),
    hint,
  })
  expect((await trust(home, 'broken.json')).error).toEqual({
    code: 'usage',
    message: expect.stringMatching(/^cannot read an operator's card from .*broken\.json: it is not JSON$/),
    hint: 'on the laptop: medulla trust --export > me.json',
  })
  expect(list()).toBe(before)
  expect(await trust(home, 'other.pub', '--name', 'bob')).toMatchObject({ name: 'bob', role: 'operator' })
})
