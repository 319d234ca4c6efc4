// Adds what it is given, in a thread of its own.
import { parentPort } from 'node:worker_threads'

parentPort?.on('message', ([a, b]: [number, number]) => parentPort?.postMessage(a + b))
