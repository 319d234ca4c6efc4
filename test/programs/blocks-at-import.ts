// Loads on the laptop, where LANG is not set, and never finishes loading on the robot.
import { robot } from 'medulla'

while (process.env.LANG !== undefined) {}

robot({ led: 'output', enable: 'output' }, ({ led, every }) => every(10, () => led.write(1)))
