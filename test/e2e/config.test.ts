/** Config values from end to end: sealed on a laptop, opened by the body, read by the programs that name them. */
import {
  chmodSync,
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import type { PushEvent } from '../../deploy/shared/api.ts'
import { openSealed } from '../../deploy/shared/bundle/seal.ts'
import { configRecipient, sealConfigValue, signConfigKey } from '../../deploy/shared/configvalue.ts'
import { generateAgeIdentity } from '../../deploy/shared/keys.ts'
import { encodeRecord } from '../../runtime/store/record.ts'
import { eventually } from './eventually.ts'
import { childrenOf, TestRobot } from './robot.ts'

const SECRET = 'correct-horse-battery-staple-4711'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start({}, { eve: 'observer', bob: 'operator' })
})
afterAll(async () => robot?.close())

const logged = (text: string) => eventually(async () => (await robot.logs()).find((line) => line.text.includes(text)))
const names = async () => (await robot.client.config()).values.map(({ name, time }) => [name, time !== null])
/** The order as the endpoint sees it. */
const order = async (name: string, value: string, client = robot.client) => {
  const recipient = configRecipient((await client.config()).key, robot.identity.id)
  return client.sign({ order: 'set-config', name, sealed: await sealConfigValue(value, recipient) })
}
const carriedOut = async (signed: Awaited<ReturnType<typeof order>>) => {
  for await (const _ of robot.client.carryOut<unknown>(signed));
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return filesBelow(path)
    return entry.isFile() ? [path] : []
  })
}
const filesWith = (folder: string, text: string) =>
  filesBelow(folder).filter((path) => readFileSync(path).includes(text))

/** Whether a process has these bytes anywhere in its writable memory. Needs root. */
function hasInMemory(pid: number, bytes: Buffer): boolean {
  const fd = openSync(`/proc/${pid}/mem`, 'r')
  try {
    return readFileSync(`/proc/${pid}/maps`, 'utf8')
      .split('\n')
      .some((line) => {
        const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? []
        const length = Number.parseInt(to, 16) - Number.parseInt(from, 16)
        if (!(length > 0 && length < 2 ** 30)) return false
        const part = Buffer.alloc(length)
        try {
          return part.subarray(0, readSync(fd, part, 0, length, Number.parseInt(from, 16))).includes(bytes)
        } catch {
          return false // reserved, not mapped
        }
      })
  } finally {
    closeSync(fd)
  }
}

test('BUNDLE 10.15, HANDOVER 15.3: a program with missing config values is refused before it runs', async () => {
  const pushed = await robot.push('config')
  expect(pushed).toMatchObject({
    outcome: 'refused',
    code: 'missing-config',
    message: 'program needs GREETING, SECRET, which are not set on this robot',
  })
  expect(robot.receipt()).toMatchObject({ outcome: 'refused', code: 'missing-config', program: 'config' })
  expect(robot.programPid).toBeUndefined()
})

test('HANDOVER 15.4: an observer can list names, and cannot set or unset values', async () => {
  const eve = await robot.connect(robot.others.eve)
  onTestFinished(() => eve.close())
  expect((await eve.config()).values).toEqual([])
  await expect(eve.setConfig('SECRET', SECRET)).rejects.toMatchObject({ code: 'role' })
  await expect(eve.unsetConfig('SECRET')).rejects.toMatchObject({ code: 'role' })
  expect(await names()).toEqual([])
})

test('HANDOVER 15.1, 15.2: a value reaches the program that names it, and is stored in one file only', async () => {
  const set = await robot.client.setConfig('SECRET', SECRET)
  expect(set).toEqual({ name: 'SECRET', time: expect.stringMatching(/Z$/), by: 'ann', uses: [] })
  await robot.client.setConfig('GREETING', 'hello')
  await robot.client.setConfig('OTHER', 'of no use to it')
  await robot.commit('config')
  await logged(`start: hello, ${SECRET.length}, GREETING,SECRET`)
  expect((await robot.client.config()).values).toMatchObject([
    { name: 'GREETING', by: 'ann', uses: [{ slot: 'main', program: 'config', version: '1.0.0', runs: true }] },
    { name: 'OTHER', uses: [] },
    { name: 'SECRET', by: 'ann', uses: [{ slot: 'main' }] },
  ])

  const file = join(robot.home, 'config.json')
  expect(filesWith(robot.home, SECRET)).toEqual([file])
  expect(statSync(file).mode & 0o777).toBe(0o600)
  const program = robot.programPid as number
  const instances = join(readlinkSync(`/proc/${program}/cwd`), '..')
  expect(filesWith(instances, SECRET)).toEqual([])

  const pids = [robot.pid, ...robot.children().map(({ pid }) => pid), ...childrenOf(program).map(({ pid }) => pid)]
  for (const pid of pids) {
    for (const name of ['cmdline', 'environ'])
      expect(readFileSync(`/proc/${pid}/${name}`, 'utf8')).not.toContain(SECRET)
  }
  const receipts = JSON.stringify(robot.receipts())
  expect(receipts).toContain('config SECRET: set')
  expect(receipts).not.toContain(SECRET)
  const said = JSON.stringify([await robot.logs(), await robot.client.status(), await robot.client.config()])
  expect(said + robot.stderr).not.toContain(SECRET)
})

test("HANDOVER 15.5: a value in the program's output is replaced by its name", async () => {
  expect(await logged('printed: ')).toMatchObject({ stream: 'stdout', text: 'printed: [SECRET]' })
})

test("BUNDLE 13.3: the endpoint gets a sealed value, which the endpoint's key cannot open", async () => {
  const { order: text } = await order('SECRET', SECRET)
  expect(text).not.toContain(SECRET)
  const sealed = Buffer.from((JSON.parse(text) as { sealed: string }).sealed, 'base64')
  expect(sealed.toString('latin1')).toMatch(/^age-encryption\.org\/v1\n-> X25519 /)
  await expect(openSealed(sealed, robot.ageSecret)).rejects.toMatchObject({ code: 'wrong-robot' })
  // values of two lengths have sealed texts of the same length
  const other = JSON.parse((await order('SECRET', 'short')).order) as { sealed: string }
  expect(Buffer.from(other.sealed, 'base64').length).toBe(sealed.length)
})

test.runIf(process.getuid?.() === 0)(
  'BUNDLE 13.2: the memory of the body has the value, that of the endpoint has not',
  () => {
    const bytes = Buffer.from(SECRET)
    expect(hasInMemory(robot.pid, bytes)).toBe(true)
    expect(hasInMemory(robot.endpoint(), bytes)).toBe(false)
  },
)

test('BUNDLE 13.2: a key that the robot has not signed is refused on the laptop', async () => {
  const { recipient } = await generateAgeIdentity()
  const forged = await signConfigKey(recipient, robot.owner.signer)
  expect(() => configRecipient(forged, robot.identity.id)).toThrow(/expected one signed by SHA256:/)
  const { key, sig } = (await robot.client.config()).key
  expect(() =>
    configRecipient({ key: key.replace(/"age":"age1...../, '"age":"age1qqqqq'), sig }, robot.identity.id),
  ).toThrow()
})

test('HANDOVER 15.4: a change takes effect at the next start, and the log says who made it', async () => {
  const { pid } = await robot.running()
  const bob = await robot.connect(robot.others.bob)
  onTestFinished(() => bob.close())
  expect(await bob.setConfig('GREETING', 'morning')).toMatchObject({ by: 'bob', uses: [{ runs: true }] })
  expect(await logged('config GREETING: set by bob')).toMatchObject({ stream: 'runtime' })
  expect(robot.receipt()).toMatchObject({
    outcome: 'changed',
    slot: 'all',
    reason: 'config GREETING: set',
    pusher: robot.others.bob?.signer.fingerprint,
  })
  expect(await robot.running()).toMatchObject({ pid })
  await robot.commit('config', { version: '1.1.0' })
  await logged('swap: morning')
})

test('HANDOVER 15.2, 15.5: a rehearsal sees the values, and its error is reported without them', async () => {
  await robot.client.setConfig('GREETING', 'throw')
  const pushed = await robot.push('config', { version: '1.2.0' })
  expect(pushed).toMatchObject({ outcome: 'rolled-back', code: 'died-at-start' })
  expect(pushed.message).toContain('cannot reach [SECRET]')
  expect(robot.receipt().said).toContain('cannot reach [SECRET]')
  expect(filesWith(robot.home, SECRET)).toEqual([join(robot.home, 'config.json')])
  await robot.client.setConfig('GREETING', 'hello')
})

test('HANDOVER 15.3, 9.9: a program whose value was unset is not restarted, its slot says why, and it starts by order', async () => {
  const before = await robot.running()
  expect(await robot.client.unsetConfig('SECRET')).toMatchObject({ time: null, by: null, uses: [{ runs: true }] })
  await expect(robot.client.unsetConfig('SECRET')).rejects.toMatchObject({ code: 'not-found' })
  expect(await robot.running()).toMatchObject({ pid: before.pid })
  process.kill(before.pid, 'SIGKILL')
  const waiting = await eventually(async () => {
    const slot = await robot.slot()
    return slot.waits !== undefined && slot
  })
  expect(waiting.waits).toBe(
    'program needs SECRET, which is not set on this robot; medulla config set SECRET, then: medulla start',
  )
  expect(robot.receipts().filter(({ code }) => code === 'missing-config')).toMatchObject([
    { outcome: 'refused' },
    { outcome: 'waiting' },
  ])
  expect((await robot.client.config()).values.find(({ name }) => name === 'SECRET')).toMatchObject({
    time: null,
    uses: [{ slot: 'main', runs: false }],
  })
  await robot.events(robot.client.stop('main'))
  const refused = await robot.events(robot.client.start('main'))
  expect(refused).toMatchObject({ outcome: 'refused', code: 'missing-config' })
  await robot.client.setConfig('SECRET', SECRET)
  expect((await robot.slot()).state).not.toBe('running')
  await robot.events(robot.client.start('main'))
  await robot.running()
})

test('HANDOVER 8.10, BUNDLE 13.2: a set-config order works once, and not if sealed to the key of an earlier process', async () => {
  const once = await order('GREETING', 'hello')
  await carriedOut(once)
  await robot.client.setConfig('GREETING', 'evening')
  await expect(carriedOut(once)).rejects.toMatchObject({ code: 'stale-order', message: /carried out before/ })

  const { key } = await robot.client.config()
  await robot.end('SIGKILL')
  await robot.begin()
  await robot.running()
  await logged('start: evening')
  const old = await sealConfigValue('hello', configRecipient(key, robot.identity.id))
  const stale = await robot.client.sign({ order: 'set-config', name: 'GREETING', sealed: old })
  await expect(carriedOut(stale)).rejects.toMatchObject({ code: 'stale-order', message: /another key/ })
})

test('BUNDLE 13.1, 13.3: a malformed sealed value is refused, and nothing of it is stored', async () => {
  const { key } = await robot.client.config()
  const recipient = configRecipient(key, robot.identity.id)
  const { seal } = await import('../../deploy/shared/bundle/seal.ts')
  const sealedBytes = async (bytes: Uint8Array) => Buffer.from(await seal(bytes, [recipient])).toString('base64')
  const padded = (text: string, length = 256) =>
    Buffer.concat([Buffer.from(text), Buffer.alloc(length)]).subarray(0, length)
  const before = readFileSync(join(robot.home, 'config.json'))
  for (const [sealed, code] of [
    ['', 'truncated'],
    ['aGVsbG8=', 'unknown-format'],
    ['not base64', 'usage'],
    [await sealedBytes(Buffer.from('without padding')), 'usage'],
    [await sealedBytes(padded('too much padding', 1024)), 'usage'],
    [await sealedBytes(padded('a NUL\0in it')), 'usage'],
    [await sealedBytes(padded('')), 'usage'],
    [await sealedBytes(Buffer.alloc(4352, 'a')), 'usage'],
    [await sealedBytes(Buffer.concat([Buffer.of(0xff), Buffer.alloc(255)])), 'usage'],
  ] as const) {
    const signed = await robot.client.sign({ order: 'set-config', name: 'GREETING', sealed })
    await expect(carriedOut(signed), sealed.slice(0, 20)).rejects.toMatchObject({ code })
  }
  const odd = await robot.client.sign({ order: 'set-config', name: '../x', sealed: '' })
  await expect(carriedOut(odd)).rejects.toMatchObject({ code: 'usage' })
  expect(readFileSync(join(robot.home, 'config.json'))).toEqual(before)
})

test('BUNDLE 13.1, HANDOVER 15.6: a robot stores at most 64 values, and limits the number of pending changes', {
  tags: ['slow'],
}, async () => {
  const entry = { value: 'x', time: new Date(0).toISOString(), by: robot.owner.signer.fingerprint }
  const values = Object.fromEntries(Array.from({ length: 64 }, (_, at) => [`N${at}`, entry]))
  const full = await TestRobot.start(
    {},
    {},
    {
      prepareHome: (home) =>
        writeFileSync(join(home, 'config.json'), encodeRecord({ format: 'medulla-config/1', values } as never), {
          mode: 0o600,
        }),
    },
  )
  onTestFinished(() => full.close())
  await expect(full.client.setConfig('ONE_MORE', 'x')).rejects.toMatchObject({ code: 'too-large' })
  let changes = 0
  const began = performance.now()
  const flood = async () => {
    for (; changes < 200; changes++) await full.client.setConfig('N1', String(changes))
  }
  await expect(flood()).rejects.toMatchObject({ code: 'in-progress' })
  expect(changes).toBeGreaterThanOrEqual(62)
  expect(changes).toBeLessThanOrEqual(64 + (6 * (performance.now() - began)) / 60_000)
  expect(full.receipts().filter(({ reason }) => reason === 'config N1: set')).toHaveLength(changes)
})

test('HANDOVER 15.2: 32 values of 4096 arbitrary bytes reach a program', { tags: ['slow'] }, async () => {
  const all = Array.from({ length: 32 }, (_, at) => `N${at}`)
  const file = join(robot.folder, 'large.ts')
  writeFileSync(
    file,
    `import { robot } from 'medulla'
robot({
  needs: {},
  config: ${JSON.stringify(all)},
  run: ({ config, log }) => log('large', ...Object.values(config).map((text) => \`\${text.length} \${text.at(-1)}\`)),
})
`,
  )
  const big = await TestRobot.start()
  onTestFinished(() => big.close())
  // control characters, which take six bytes each in JSON
  for (const [at, name] of all.entries()) await big.client.setConfig(name, '\x01'.repeat(4095) + (at % 10))
  await big.commit('large', { file })
  const said = await eventually(async () => (await big.logs()).find(({ text }) => text.startsWith('large ')))
  expect(said.text).toBe(['large', ...all.map((_, at) => `4096 ${at % 10}`)].join(' '))
})

test('HANDOVER 15.1: a change that cannot be written to disk is refused without effect, and leaves no open file', async () => {
  const preload = fileURLToPath(new URL('children/badfs.mjs', import.meta.url))
  const other = await TestRobot.start({}, {}, { preload })
  onTestFinished(() => other.close())
  await other.client.setConfig('TOKEN', SECRET)
  const file = join(other.home, 'config.json')
  const before = readFileSync(file)
  other.fault('ENOSPC')
  await expect(other.client.setConfig('TOKEN', 'another')).rejects.toMatchObject({
    code: 'internal',
    message: 'the config values could not be written (ENOSPC); none was changed',
  })
  other.fault(null)
  expect(readFileSync(file)).toEqual(before)
  await other.end()
  chmodSync(file, 0o644)
  await other.begin()
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect((await other.logs()).map(({ text }) => text)).toContainEqual(expect.stringContaining('had mode 644'))
  expect((await other.client.config()).values).toMatchObject([{ name: 'TOKEN' }])
})

test('HANDOVER 15.3: a rollback to a release that needs an unset value is refused', async () => {
  await robot.commit('counter', { version: '9.0.0' })
  await robot.client.unsetConfig('SECRET')
  const back = robot.client.carryOut<PushEvent>(await robot.order('main', { program: 'config' }))
  expect(await robot.events(back)).toMatchObject({ outcome: 'refused', code: 'missing-config' })
  expect(robot.receipt()).toMatchObject({ outcome: 'refused', code: 'missing-config' })
  expect((await robot.running()).program).toBe('counter')
})
