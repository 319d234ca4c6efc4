/** The example robots on a runtime with their own boards, by the commands of their READMEs. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Laptop } from '../deploy/laptop/cli/medulla.ts'
import { ROOT } from '../project/tree.ts'
import { freePort } from './clients.ts'

const ROBOTS = ['line-follower', 'balance', 'arm', 'weather']
/** Examples without a scenario, as they talk to a network. */
const ON_A_NETWORK = ['web', 'mqtt']

test.each([...ROBOTS, ...ON_A_NETWORK])(
  '%s is pushed to a robot, and passes its trial of a second',
  {
    tags: ['slow'],
  },
  async (name) => {
    const folder = join(ROOT, 'robots', name)
    const laptop = new Laptop()
    try {
      const board = JSON.parse(readFileSync(join(folder, 'board.json'), 'utf8'))
      expect(board.timing?.trialMs).toBeUndefined()
      if (name === 'web') board.handles.web.port = await freePort()
      const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
      await laptop.sim(board)
      const { status, events, stderr } = await laptop.json('push', folder)
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
      expect(events.at(-1)).toMatchObject({ event: 'result', outcome: 'committed' })
      const after = await laptop.json('status')
      expect(after.events[0]).toMatchObject({ slots: [{ program: manifest.name, state: 'running', restarts: 0 }] })
    } finally {
      await laptop.close()
    }
  },
)

test.each(ROBOTS)('%s passes its scenario', { tags: ['slow'] }, async (name) => {
  const laptop = new Laptop()
  try {
    const { status, stderr } = await laptop.run('sim', '--scenario', join(ROOT, 'robots', name, 'scenario.json'))
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.not.stringContaining('error') })
  } finally {
    await laptop.close()
  }
})
