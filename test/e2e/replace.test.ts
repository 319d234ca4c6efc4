/** The runtime is replaced while its programs run (HANDOVER 18), on a simulated board. */
import { cpSync, existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { ended, TestRobot } from './robot.ts'
import { expectHeld, expectNoTickLost, expectOneWriter } from './trace.ts'

let robot: TestRobot
/** The copy of the runtime that the robot runs, so that it can be changed as an update of its package would change it. */
let tree: string

beforeAll(async () => {
  robot = await TestRobot.start()
  await robot.end()
  tree = join(robot.folder, 'package/dist')
  const root = new URL('../..', import.meta.url).pathname
  cpSync(join(root, 'dist'), tree, { recursive: true, filter: (path) => !path.startsWith(join(root, 'dist/test')) })
  cpSync(join(root, 'package.json'), join(dirname(tree), 'package.json'))
  symlinkSync(join(root, 'node_modules'), join(dirname(tree), 'node_modules'))
  robot.runtime = join(tree, 'runtime/main.js')
  await robot.begin()
  await robot.commit('counter')
})
afterAll(async () => robot?.close())

const replaced = () => robot.receipts().filter(({ reason = '' }) => reason.startsWith('the runtime was replaced'))

/** Edits the runtime on disk; the returned function undoes it. */
function change(edit: (text: string) => string): () => void {
  const folder = join(tree, 'runtime')
  const files = readdirSync(folder).filter((name) => name.endsWith('.js'))
  const before = files.flatMap((name) => {
    const text = readFileSync(join(folder, name), 'utf8')
    return edit(text) === text ? [] : [[join(folder, name), text] as const]
  })
  expect(before.length).toBeGreaterThan(0)
  for (const [file, text] of before) writeFileSync(file, edit(text))
  return () => {
    for (const [file, text] of before) writeFileSync(file, text)
  }
}

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`)
}

/** The new runtime is being asked what it can go on with, in a process of its own: the replacement is under way. */
const isAsked = () => eventually(() => robot.children().some(({ command }) => command.endsWith('main.js able')))

async function replace(): Promise<void> {
  const before = replaced().length
  process.kill(robot.pid, 'SIGUSR2')
  await eventually(() => replaced().length > before)
  await robot.reconnect()
}

test('HANDOVER 18.1, 18.3: ten replacements lose no tick, and programs, pids, fencing numbers and logs go on', async () => {
  const before = await robot.running()
  const { pid } = robot
  const mark = robot.trace.mark()
  const lines = await robot.logs('main', 1000)
  for (let i = 0; i < 10; i++) await replace()
  await robot.trace.more('dial')
  expect(robot.pid).toBe(pid)
  expect(await robot.running()).toMatchObject({ pid: before.pid, fence: before.fence, restarts: before.restarts })
  expectNoTickLost(robot.trace.since(mark))
  expectOneWriter(robot.trace.read())
  expectHeld(robot.trace.read())
  expect((await robot.logs('main', 1000)).slice(0, lines.length)).toEqual(lines)
  const gaps = replaced().map(({ gapMs }) => gapMs as number)
  console.log(`without a body, ms: ${gaps.map((ms) => ms.toFixed(0)).join(' ')}`)
  robot.check()
})

test('HANDOVER 3.3: after a replacement a new program gets its own descriptors only; a crash restarts it', async () => {
  const before = await robot.running()
  const descriptors = (pid: number) => readdirSync(`/proc/${pid}/fd`).length
  const [ofProgram, ofEndpoint] = [descriptors(before.pid), descriptors(robot.endpoint())]
  await replace()
  const mark = robot.trace.mark()
  expect(await robot.commit('counter', { version: '1.1.0' })).toMatchObject({
    outcome: 'committed',
    from: before.digest,
  })
  expect(descriptors((await robot.running()).pid)).toBe(ofProgram)
  expect(descriptors(robot.endpoint())).toBeLessThanOrEqual(ofEndpoint + 2)
  await robot.trace.more('dial')
  expectNoTickLost(robot.trace.since(mark))
  await replace()
  const { pid, restarts } = await robot.running()
  process.kill(pid, 'SIGKILL')
  expect(await robot.running(pid)).toMatchObject({ restarts: restarts + 1 })
  expect(robot.receipts().findLast(({ outcome }) => outcome === 'crashed')).toMatchObject({
    reason: expect.stringContaining('SIGKILL'),
  })
  robot.check()
})

test('HANDOVER 18.8: the runtime that is on disk now takes over, and the receipt names both versions', async () => {
  const { pid } = await robot.running()
  const { version } = await robot.client.status()
  const undo = change((text) => text.replaceAll(`SDK_VERSION = "${version}"`, 'SDK_VERSION = "9.9.9"'))
  await replace()
  expect(replaced().at(-1)).toMatchObject({ version: '9.9.9', reason: `the runtime was replaced, ${version} by 9.9.9` })
  expect((await robot.client.status()).version).toBe('9.9.9')
  undo()
  await replace()
  expect((await robot.running()).pid).toBe(pid)
})

test('HANDOVER 18.2: a runtime that does not start, or speaks another wire, does not replace the one that runs', async () => {
  const before = await robot.running()
  const count = replaced().length
  const refused = async (edit: (text: string) => string, says: RegExp) => {
    const undo = change(edit)
    const from = robot.stderr.length
    process.kill(robot.pid, 'SIGUSR2')
    await eventually(() => says.test(robot.stderr.slice(from)))
    undo()
  }
  const broken = (text: string) =>
    text.includes('"until-stdin-ends"') ? `${text}\nthrow new Error('a broken build')\n` : text
  await refused(broken, /goes on as it is: the new runtime does not start: .*a broken build/)
  await refused((text) => text.replace(/var WIRE = (\d+)/, 'var WIRE = 1$1'), /cannot go on with running programs/)
  const other = /medulla-saved\/2.* is needed, it has medulla-saved\/3/
  await refused((text) => text.replaceAll('medulla-saved/2', 'medulla-saved/3'), other)
  const file = join(robot.home, 'board.json')
  const board = readFileSync(file, 'utf8')
  writeFileSync(file, board.replace('GPIO17', 'GPIO16'))
  process.kill(robot.pid, 'SIGUSR2')
  await eventually(() => robot.stderr.includes('the board file was changed since the runtime was started'))
  writeFileSync(file, board)
  expect(await robot.running()).toMatchObject({ pid: before.pid, restarts: before.restarts })
  expect(replaced().length).toBe(count)
})

test('HANDOVER 18.2: the runtime is not replaced in the middle of a push', async () => {
  const count = replaced().length
  // this program never gets ready, so the push goes on until it is called off
  const pushed = robot.push('blocks-at-import', { program: 'counter', version: '1.2.0' })
  await eventually(async () => (await robot.slot()).state === 'preparing')
  process.kill(robot.pid, 'SIGUSR2')
  await eventually(() => robot.stderr.includes('goes on as it is: slot main is busy (preparing)'))
  expect(replaced().length).toBe(count)
  expect(await ended(robot.client.stop('main'))).toMatchObject({ outcome: 'stopped' })
  expect(await pushed).toMatchObject({ outcome: 'called-off' })
  expect(await ended(robot.client.start('main'))).toMatchObject({ outcome: 'started' })
  await robot.running()
})

test('HANDOVER 18.6: the robot accepts connections again on the same port after each replacement', async () => {
  const took: number[] = []
  for (let i = 0; i < 5; i++) {
    await replace()
    took.push((await robot.client.status()).uptimeMs)
  }
  console.log(`connected after the new start, ms: ${took.join(' ')}`)
})

test('a stopped slot stays stopped over a replacement, and starts by order', async () => {
  expect(await ended(robot.client.stop('main'))).toMatchObject({ outcome: 'stopped' })
  await replace()
  expect(await robot.slot()).toMatchObject({ state: 'idle' })
  expect(await ended(robot.client.start('main'))).toMatchObject({ outcome: 'started' })
  await robot.running()
})

test('when a program ends while the runtime is replaced, the new runtime drives its safe levels and restarts it', async () => {
  const before = await robot.running()
  const mark = robot.trace.mark()
  const [count, endpoint] = [replaced().length, robot.endpoint()]
  process.kill(robot.pid, 'SIGUSR2')
  // the endpoint is ended last, just before the new runtime is started
  await eventually(() => !robot.children().some(({ pid }) => pid === endpoint))
  process.kill(before.pid, 'SIGKILL')
  await eventually(() => replaced().length > count)
  await robot.reconnect()
  expect(await robot.running(before.pid)).toMatchObject({ digest: before.digest })
  await robot.trace.more('dial')
  expect(
    robot.trace.since(mark).some(({ name, value, fence }) => name === 'led' && value === 0 && fence > before.fence),
  ).toBe(true)
})

test('HANDOVER 18.7: a new runtime that fails before it has touched a handle gives back, and the old one goes on', async () => {
  const before = await robot.running()
  const undo = change((text) =>
    text.replace(
      /let touched = false;\s*try \{/,
      "$& if (saved !== undefined && saved.failed === undefined) throw new Error('no room');",
    ),
  )
  const mark = robot.trace.mark()
  process.kill(robot.pid, 'SIGUSR2')
  const back = () => robot.receipts().find(({ reason = '' }) => reason === 'the runtime is back: no room')
  await eventually(() => back() !== undefined)
  await robot.reconnect()
  undo()
  expect(robot.stderr).toContain('the runtime is back: no room')
  expect(await robot.running()).toMatchObject({ pid: before.pid, fence: before.fence })
  await robot.trace.more('dial')
  expectNoTickLost(robot.trace.since(mark))
})

test('HANDOVER 18.8: SIGUSR2 and SIGHUP while the new runtime loads do not end it, and it is replaced once more', async () => {
  const before = await robot.running()
  const [count, marker] = [replaced().length, join(robot.folder, 'loads')]
  const slow = `if (process.argv.includes('--resume')) {
    (await import('node:fs')).writeFileSync(${JSON.stringify(marker)}, '')
    await new Promise((resolve) => setTimeout(resolve, 500))
  }`
  const undo = change((text) =>
    text.includes('"until-stdin-ends"') ? text.replace(/\nmain\(\)\./, `\n${slow}\nmain().`) : text,
  )
  process.kill(robot.pid, 'SIGUSR2')
  await eventually(() => existsSync(marker))
  undo()
  process.kill(robot.pid, 'SIGHUP')
  process.kill(robot.pid, 'SIGUSR2')
  await eventually(() => replaced().length === count + 2)
  await robot.reconnect()
  expect(await robot.running()).toMatchObject({ pid: before.pid, fence: before.fence })
})

test('two SIGUSR2 at once replace the runtime once', async () => {
  const { pid } = await robot.running()
  const count = replaced().length
  process.kill(robot.pid, 'SIGUSR2')
  await isAsked()
  process.kill(robot.pid, 'SIGUSR2')
  await eventually(() => replaced().length > count)
  await robot.reconnect()
  expect(await robot.running()).toMatchObject({ pid })
  expect(replaced().length).toBe(count + 1)
})

test('SIGTERM while the new runtime is asked ends the robot: nothing replaces it', async () => {
  const count = replaced().length
  process.kill(robot.pid, 'SIGUSR2')
  await isAsked()
  await robot.end()
  expect(robot.stderr).toContain('goes on as it is: the runtime is being ended')
  await robot.begin()
  expect(replaced().length).toBe(count)
})

test('a program that has closed its stdout goes on, and is stopped by order', async () => {
  await robot.commit('closes-stdout')
  const { pid } = await robot.running()
  await replace()
  expect(await robot.running()).toMatchObject({ pid })
  expect(await ended(robot.client.stop('main'))).toMatchObject({ outcome: 'stopped' })
  expect(robot.children().some((child) => child.pid === pid)).toBe(false)
  await robot.commit('counter', { version: '2.0.0' })
})

test('HANDOVER 18.7: a new runtime that fails after it has touched a handle ends, and the programs with it', async () => {
  const { pid } = await robot.running()
  const bodyPid = robot.pid
  const undo = change((text) => text.replace(/adopt\(saved, \w+\) \{/, "$& throw new Error('no memory');"))
  process.kill(robot.pid, 'SIGUSR2')
  await eventually(() => !isAlive(bodyPid))
  undo()
  expect(robot.stderr).toContain('cannot go on with what the last one left: no memory')
  await eventually(() => !isAlive(pid))
  await robot.begin()
  expect((await robot.running()).pid).not.toBe(pid)
})

test('HANDLES 6.7: an emergency stop that is pressed while the runtime is replaced stops the programs that went on', async () => {
  const { pid } = await robot.running()
  const undo = change((text) =>
    text.replace(/#isActive\(\) \{/, "$& if (process.argv.includes('--resume')) return true;"),
  )
  await replace()
  undo()
  await eventually(() => !isAlive(pid))
  expect(await robot.slot()).toMatchObject({ state: 'idle' })
  expect((await robot.client.status()).estop).not.toBeNull()
  expect(robot.children().some(({ command }) => command.includes('sdk/loader.js'))).toBe(false)
})
