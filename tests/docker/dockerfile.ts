/** `docker/Dockerfile` as stages of steps, and which files its context holds. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { DockerfileParser, type Instruction } from 'dockerfile-ast';
import { z } from 'zod';

/** The repository, seen from dist/tests/docker. */
export const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));

export interface Step {
  /** `RUN`, `COPY`, … */
  readonly keyword: string;
  /** `--from=build` as `{from: 'build'}`. */
  readonly flags: Readonly<Record<string, string>>;
  /** Behind the flags, lines joined. */
  readonly text: string;
}

export interface Stage {
  /** Of the last one: empty. */
  readonly name: string;
  /** An image, or a stage before. */
  readonly base: string;
  readonly steps: readonly Step[];
}

export function readStages(): Stage[] {
  const stages: { name: string; base: string; steps: Step[] }[] = [];
  for (const instruction of DockerfileParser.parse(
    readFileSync(`${REPOSITORY}docker/Dockerfile`, 'utf8'),
  ).getInstructions()) {
    const step = stepOf(instruction);
    if (step.keyword === 'FROM') {
      const [, base, name = ''] = /^(\S+)(?: AS (\S+))?$/.exec(step.text)!;
      stages.push({ name, base: base!, steps: [] });
    } else stages.at(-1)!.steps.push(step);
  }
  return stages;
}

/** Arguments in the form of a JSON list, as CMD, ENTRYPOINT and HEALTHCHECK have them here. */
export const listOf = (text: string): string[] => z.array(z.string()).parse(JSON.parse(text));

/** What the context holds: the exceptions of an ignore file that begins with everything. */
export function contextPaths(): string[] {
  const lines = readFileSync(`${REPOSITORY}docker/Dockerfile.dockerignore`, 'utf8').split('\n');
  const [all, ...rest] = lines.filter((line) => line !== '' && !line.startsWith('#'));
  assert.equal(all, '*');
  assert(rest.every((line) => /^![^*?]+$/.test(line)));
  return rest.map((line) => line.slice(1));
}

function stepOf(instruction: Instruction): Step {
  // As Docker does: comment lines go, lines are joined.
  const joined = instruction
    .getTextContent()
    .split('\n')
    .filter((line) => !line.trimStart().startsWith('#'))
    .join('\n')
    .replaceAll(/\\\n\s*/g, ' ');
  const keyword = instruction.getKeyword();
  let text = joined.slice(keyword.length).trim();
  const flags: Record<string, string> = {};
  for (
    let match = /^--([a-z-]+)=(\S+)\s+/.exec(text);
    match !== null;
    match = /^--([a-z-]+)=(\S+)\s+/.exec(text)
  ) {
    flags[match[1]!] = match[2]!;
    text = text.slice(match[0].length);
  }
  return { keyword, flags, text };
}
