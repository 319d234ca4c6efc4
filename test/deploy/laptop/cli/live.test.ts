import { readFileSync, writeFileSync } from 'node:fs'
import { createConnection, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseAddress } from '../../../../deploy/laptop/cli/robot.ts'
import { staged } from '../../../e2e/staged.ts'
import { ROOT } from '../../../project/tree.ts'
import { Laptop } from './medulla.ts'

const BLINK = join(ROOT, 'robots/blink')
let laptop: Laptop
let address: { host: string; port: number }

/** One robot for the whole file, with the board of robots/blink and a trial in which robots/blink/broken fails. */
beforeAll(async () => {
  laptop = new Laptop()
  const board = JSON.parse(readFileSync(join(BLINK, 'board.json'), 'utf8'))
  address = await laptop.sim({ ...board, timing: { trialMs: 3000 } })
})
afterAll(() => laptop.close())

test('P2, P11: one command pushes one program, and reports that it runs', async () => {
  const { status, events } = await laptop.json('push', join(BLINK, 'v1'))
  expect(status).toBe(0)
  expect(events[0]).toMatchObject({ event: 'built', program: 'blink', version: '1.0.0' })
  expect(events.at(-1)).toMatchObject({ event: 'result', outcome: 'committed', receipt: { outcome: 'committed' } })
  expect((await laptop.json('status')).events[0]).toMatchObject({
    event: 'status',
    simulated: true,
    slots: [{ slot: 'main', program: 'blink', version: '1.0.0', state: 'running' }],
  })
})

test('P12: a push over a running program prints its timeline and, before the result, the gap in ms', async () => {
  const { status, stdout } = await laptop.run('push', join(BLINK, 'v2'), '-d', 'sim')
  expect(status).toBe(0)
  const lines = stdout.trimEnd().split('\n')
  expect(lines[0]).toMatch(/^blink 2\.0\.0 to sim\/main, \d+ bytes$/)
  expect(lines.at(-2)).toMatch(/^ {2}gap +\d[\d.]* ms in which no program could write$/)
  expect(lines.at(-1)).toBe('committed: blink 2.0.0 runs')
})

test('P11: a push whose program fails its trial exits 4 with the reason, and the old program runs', async () => {
  const { status, stderr } = await laptop.run('push', join(BLINK, 'broken'))
  expect(status).toBe(4)
  expect(stderr).toMatch(/^medulla: error: rolled-back: .*lost count/)
  const { events } = await laptop.json('status')
  expect(events[0]).toMatchObject({ slots: [{ version: '2.0.0', state: 'running' }] })
})

test('P11: an undone release is refused at the second push, and tried again with --retry', async () => {
  const file = join(laptop.dir, 'broken.medulla')
  const built = await laptop.json('build', join(BLINK, 'broken'), '-o', file, '--expires', '2999-01-01T00:00:00Z')
  expect(built).toMatchObject({ status: 0, events: [{ event: 'built', version: '3.0.0' }] })
  expect(await laptop.run('push', file)).toMatchObject({ status: 4 })
  const again = await laptop.run('push', file)
  expect(again.status).toBe(3)
  expect(again.stderr).toMatch(/^medulla: error: .*\nmedulla: hint: .*--retry/)
  expect(await laptop.run('push', file, '--retry')).toMatchObject({ status: 4 })
  const { events } = await laptop.json('receipts', '--limit', '3')
  expect(events.map(({ outcome, code }) => [outcome, code])).toEqual([
    ['rolled-back', 'died-in-trial'],
    ['refused', 'tried-before'],
    ['rolled-back', 'died-in-trial'],
  ])
})

test('P11: a push of the running bundle exits 0 and says that it already runs', async () => {
  const file = join(laptop.dir, 'blink.medulla')
  expect(await laptop.run('build', join(BLINK, 'v1'), '-o', file)).toMatchObject({ status: 0 })
  expect(await laptop.run('push', file)).toMatchObject({ status: 0 })
  const again = await laptop.json('push', file)
  expect(again.events.at(-1)).toMatchObject({ code: 'already-installed' })
  expect(again.status).toBe(0)
})

test('P11: rollback works, and receipts --verify accepts the log and notices a cut', async () => {
  expect(await laptop.run('rollback')).toMatchObject({ status: 0 })
  expect((await laptop.json('status')).events[0]).toMatchObject({ slots: [{ version: '2.0.0', state: 'running' }] })
  const { status, events } = await laptop.json('receipts', '--verify')
  expect(status).toBe(0)
  expect(events.at(-1)).toMatchObject({ event: 'verified', ok: true, entries: events.length - 1, first: 1 })
  // plants the head of another log as seen by an earlier --verify
  const path = join(laptop.dir, 'config/robots.json')
  const known = JSON.parse(readFileSync(path, 'utf8'))
  known.robots.sim.seen.digest = `sha256:${'0'.repeat(64)}`
  writeFileSync(path, JSON.stringify(known))
  expect(await laptop.run('receipts', '--verify')).toMatchObject({
    status: 3,
    stderr: expect.stringMatching(
      /was seen earlier\nmedulla: hint: do not trust this log; if you know why, medulla receipts --verify --accept /,
    ),
  })
  expect(await laptop.run('receipts', '--verify', '--accept')).toMatchObject({ status: 0 })
  expect(await laptop.run('receipts', '--verify')).toMatchObject({ status: 0 })
})

test('P11: push --detach returns when the robot has accepted the bundle, and says that it did not wait', async () => {
  const { status, stderr, stdout } = await laptop.run('push', join(BLINK, 'v1'), '--detach')
  expect(status).toBe(0)
  expect(stdout).toMatch(/^sim\/main accepted blink 1\.0\.0\n$/)
  expect(stderr).toContain('not waiting for start, takeover, trial and commit')
  await settled('1.0.0')
})

test('run follows the log, and Ctrl-C stops the program', async () => {
  const running = laptop.start(['run', join(ROOT, 'robots/button-counter'), '--slot', 'counter'])
  await new Promise<void>((resolve) => {
    running.stdout?.on('data', (text: string) => text.includes('runtime') && resolve())
  })
  running.kill('SIGINT')
  const { status, stderr, stdout } = await running.ended
  expect(stderr).toContain('stopping sim/counter')
  expect(stdout).toContain('stopped:')
  expect(status).toBe(0)
  const { events } = await laptop.json('status')
  expect(events[0]).toMatchObject({
    slots: expect.arrayContaining([expect.objectContaining({ slot: 'main', state: 'running' })]),
  })
})

test('P11: Ctrl-C during an upload exits 130, says what the robot does, and leaves nothing there', async () => {
  // a proxy that passes the handshake and the first bytes of the upload, then stalls
  const sockets: Socket[] = []
  let stalled = (): void => {}
  const uploading = new Promise<void>((resolve) => {
    stalled = resolve
  })
  const wire = createServer((near) => {
    const far = createConnection(address)
    sockets.push(near, far)
    let passed = 0
    near.on('data', (bytes) => {
      passed += bytes.length
      if (passed < 4000) far.write(bytes)
      else stalled()
    })
    far.pipe(near)
    for (const socket of [near, far]) socket.on('error', () => {})
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => wire.once('listening', resolve))
  const path = join(laptop.dir, 'config/robots.json')
  const before = readFileSync(path, 'utf8')
  const known = JSON.parse(before)
  known.robots.sim.address = `127.0.0.1:${(wire.address() as { port: number }).port}`
  writeFileSync(path, JSON.stringify(known))

  const pushing = laptop.start(['push', join(BLINK, 'v2'), '-d', 'sim'])
  await uploading
  pushing.kill('SIGINT')
  const { status, stderr } = await pushing.ended
  expect(status).toBe(130)
  expect(stderr).toBe('medulla: error: interrupted: sim drops the incomplete upload, and its program keeps running\n')
  for (const socket of sockets) socket.destroy()
  wire.close()
  writeFileSync(path, before)
  const report = (await laptop.json('status')).events[0]
  expect(report).toMatchObject({
    slots: expect.arrayContaining([expect.objectContaining({ version: '1.0.0', state: 'running' })]),
  })
  expect(staged(join(laptop.dir, 'config/sim/sim'))).toEqual([])
})

test('stop drives the outputs to their safe levels', async () => {
  expect(await laptop.run('stop')).toMatchObject({ status: 0, stdout: expect.stringContaining('stopped: ') })
})

test('-d with an address finds the robot whose card is known', async () => {
  const { host, port } = parseAddress(`${address.host}:${address.port}`)
  expect(await laptop.run('status', '-d', `localhost:${port}`)).toMatchObject({ status: 0 })
  expect(await laptop.run('status', '-d', `${host}:${port}`)).toMatchObject({ status: 0 })
})

async function settled(version: string): Promise<void> {
  await expect
    .poll(async () => (await laptop.json('status')).events[0], { interval: 100 })
    .toMatchObject({ slots: [{ slot: 'main', version, state: 'running' }] })
}
