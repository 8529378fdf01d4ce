import { machineProcesses } from '../../app/top.ts';
import type { Handler } from '../program.ts';
import { jsonLine } from '../render/json.ts';
import { formatMemory } from '../render/size.ts';
import { renderTable } from '../render/table.ts';
import { readTerminal } from '../render/terminal.ts';

export const top: Handler<{ json?: boolean }> = async (session, [name = ''], options) => {
  const processes = await machineProcesses(session.place, name, session.commandLine);
  if (options.json === true) {
    session.stdout.write(`${jsonLine(processes)}\n`);
    return 0;
  }
  const rows = processes.map(({ pid, hostPid, user, cpuPercent, memoryBytes, cpuSeconds, command }) => [
    String(pid),
    hostPid === undefined ? '' : String(hostPid),
    user,
    cpuPercent.toFixed(1),
    formatMemory(memoryBytes),
    clock(cpuSeconds),
    command,
  ]);
  const header = ['PID', 'HOST PID', 'USER', 'CPU %', 'MEMORY', 'TIME', 'COMMAND'];
  session.stdout.write(renderTable(header, rows, readTerminal(session.stdout, session.place.env)));
  return 0;
};

/** `0:07`, `12:34`, `1:02:03`: as ps(1) and top(1) write CPU time. */
function clock(seconds: number): string {
  const whole = Math.floor(seconds);
  const two = (value: number): string => String(value).padStart(2, '0');
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}
