/** A laptop never replaces a robot's known key silently: two real robots, under one name or at one address. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { robotCard } from './cards.ts'
import { Laptop, type Running } from './medulla.ts'

interface Robot {
  process: Running
  address: string
  id: string
  card: string
}

const laptop = new Laptop()
let one: Robot
let two: Robot

async function simulated(name: string, ...more: string[]): Promise<Robot> {
  const started = laptop.start(['--json', 'sim', '--name', name, '--port', '0', ...more])
  const line = await new Promise<string>((resolve, reject) => {
    started.stdout?.once('data', resolve)
    started.ended.then(({ stdout, stderr }) => reject(new Error(stdout + stderr)), reject)
  })
  const { event, host, port, id, home } = JSON.parse(line)
  if (event !== 'listening') throw new Error(line)
  return { process: started, address: `${host}:${port}`, id, card: join(home, 'robot.json') }
}

const pinned = (): string => readFileSync(join(laptop.dir, 'config/robots.json'), 'utf8')

beforeAll(async () => {
  await laptop.run('keygen')
  one = await simulated('one')
  two = await simulated('two')
})
afterAll(() => laptop.close())

/** Expects a refusal with both fingerprints and both possible commands, and no change of files. */
async function refused(ids: [string, string], ...args: string[]): Promise<string> {
  const before = pinned()
  const { status, stdout, stderr } = await laptop.run(...args)
  expect({ status, stdout }).toEqual({ status: 3, stdout: '' })
  expect(stderr).toContain(`is known as ${ids[0]}, but this card belongs to ${ids[1]}`)
  expect(stderr).toMatch(/hint: if it is another robot, .*; if yours was made anew, .*: medulla .*--replace/)
  expect(pinned()).toBe(before)
  return stderr
}

test('CHANNEL 3.9: a known name keeps its robot unless --replace is given', async () => {
  const told = await refused([one.id, two.id], 'trust', 'one', two.address, '--card', two.card)
  expect(told).toContain(`medulla trust one ${two.address} --card ${two.card} --replace`)
  expect((await laptop.run('status', '-d', 'one')).stdout).toContain(one.id)
  expect(await laptop.run('trust', 'one', two.address, '--card', two.card, '--replace')).toMatchObject({ status: 0 })
  expect((await laptop.run('status', '-d', 'one')).stdout).toContain(two.id)
  expect(await laptop.run('trust', 'one', one.address, '--card', one.card, '--replace')).toMatchObject({ status: 0 })
})

test('CHANNEL 3.9: a known address keeps its robot unless --replace is given, which prints what was forgotten', async () => {
  const { signed, id } = await robotCard('other')
  const card = join(laptop.dir, 'other.json')
  writeFileSync(card, JSON.stringify(signed))
  const told = await refused([two.id, id], 'trust', 'other', two.address, '--card', card)
  expect(told).toContain(`${two.address} is two, which is known as`)
  const { stderr } = await laptop.run('trust', 'other', two.address, '--card', card, '--replace')
  expect(stderr).toContain('forgotten, because it had this address: two')
  expect(Object.keys(JSON.parse(pinned()).robots).sort()).toEqual(['one', 'other'])
  // the robot at the address is not that of the card, so the laptop sends nothing
  const { status, stderr: mismatch } = await laptop.run('status', '-d', 'other')
  expect(status).toBe(3)
  expect(mismatch).toContain(two.id)
  expect(await laptop.run('trust', 'two', two.address, '--card', two.card, '--replace')).toMatchObject({ status: 0 })
})

test('the same robot at another address or under another name needs no option', async () => {
  const { stdout } = await laptop.run('trust', 'two', '127.0.0.1:9', '--card', two.card)
  expect(stdout).toContain('127.0.0.1:9')
  expect(await laptop.run('trust', 'also-two', two.address, '--card', two.card)).toMatchObject({ status: 0 })
  expect((await laptop.run('status', '-d', 'also-two')).stdout).toContain(two.id)
})

test('sim refuses the name of another known robot, also of a simulated one whose home is gone', async () => {
  const { signed, id } = await robotCard('arm')
  const card = join(laptop.dir, 'arm.json')
  writeFileSync(card, JSON.stringify(signed))
  expect(await laptop.run('trust', 'arm', '10.0.0.5', '--card', card)).toMatchObject({ status: 0 })
  const { status, stderr } = await laptop.run('sim', '--name', 'arm', '--port', '0')
  expect(status).toBe(3)
  expect(stderr).toContain(`arm is known as ${id}, but this card belongs to SHA256:`)
  expect(stderr).toContain('medulla sim --name arm --replace; or choose another --name')
  expect(JSON.parse(pinned()).robots.arm.card).toEqual(signed)

  one.process.kill('SIGTERM')
  await one.process.ended
  rmSync(join(one.card, '..'), { recursive: true })
  expect((await laptop.run('sim', '--name', 'one', '--port', '0')).stderr).toContain(
    `one is known as ${one.id}, but this`,
  )
  const again = await simulated('one', '--replace')
  expect((await laptop.run('status', '-d', 'one')).stdout).toContain(again.id)
})
