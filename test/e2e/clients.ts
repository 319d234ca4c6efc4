/** Clients of a program's servers, which count their answers and errors. */

import { once } from 'node:events'
import { type Agent, request } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** The first of `count` ports that are free at the moment and outside of the kernel's ephemeral range. */
export async function freePort(count = 1): Promise<number> {
  // by pid, because test files run at the same time, in processes with consecutive pids
  let port = 18_000 + ((process.pid * 8) % 8000)
  for (let free = 0; free < count; port++) free = (await isFree(port)) ? free + 1 : 0
  return port - count
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  const free = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false)).listen(port, () => resolve(true))
  })
  if (free) await new Promise((resolve) => server.close(resolve))
  return free
}

export type Where = { port: number } | { socketPath: string }

/** One request on a new connection, or on the agent's. Resolves to the answer, or to the error's code. */
export function ask(where: Where, path = '/', agent: Agent | false = false): Promise<{ text: string; close: boolean }> {
  return new Promise((resolve, reject) => {
    const to = 'port' in where ? { host: '127.0.0.1', ...where } : where
    request({ ...to, path, agent }, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      answer.on('end', () => resolve({ text, close: answer.headers.connection === 'close' }))
      answer.on('error', reject)
    })
      .on('error', reject)
      .end()
  })
}

/** Sends requests one after the other, each on a new connection, until it is stopped. */
export class Visitor {
  readonly answers = new Map<string, number>()
  readonly failures: string[] = []
  #on = true
  readonly #done: Promise<void>

  constructor(where: Where, path = '/') {
    this.#done = this.#visit(where, path)
  }

  async stop(): Promise<void> {
    this.#on = false
    await this.#done
  }

  async #visit(where: Where, path: string): Promise<void> {
    while (this.#on) {
      const asked = performance.now()
      try {
        const { text } = await ask(where, path)
        this.answers.set(text, (this.answers.get(text) ?? 0) + 1)
      } catch (error) {
        const after = `after ${(performance.now() - asked).toFixed(1)} ms`
        this.failures.push(`${(error as Error).message} ${after}`)
      }
      await sleep(0)
    }
  }
}

/** A connection that sends one request and stays open; records how it ended, and with which error. */
export async function keptAlive(port: number, path = '/'): Promise<{ socket: Socket; ended: Promise<string> }> {
  const socket = connect({ host: '127.0.0.1', port })
  let how = 'closed'
  socket.on('end', () => {
    how = 'end'
  })
  socket.on('error', (error: NodeJS.ErrnoException) => {
    how = error.code ?? 'error'
  })
  const ended = once(socket, 'close').then(() => how)
  await once(socket, 'connect')
  socket.write(`GET ${path} HTTP/1.1\r\nHost: robot\r\n\r\n`)
  await once(socket, 'data')
  return { socket, ended }
}
