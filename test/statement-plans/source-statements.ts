import { transformSync } from '@swc/core';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import type { MigrationInterface } from 'typeorm';

export interface Statement {
  readonly name: string;
  readonly text: string;
}

export type LoadTopLevel = () => Promise<Record<string, unknown>>;

/** What the source sends to PostgreSQL. */
export interface SourceStatements {
  /** Those that are written as constants, by name. */
  readonly constants: ReadonlyMap<string, Statement>;
  /** Functions that make statements, by name. */
  readonly makers: ReadonlyMap<string, (...values: never[]) => Statement>;
  /** Functions and methods that send SQL without a name, as `function` or `Class.method`, and what stands at the top of their modules. */
  readonly unnamed: ReadonlyMap<string, LoadTopLevel>;
  /** Tables from which old rows are deleted, with the columns that tell their age. */
  readonly retained: ReadonlyMap<string, string>;
  /** Statements that are written where nobody can find them. */
  readonly misplaced: readonly string[];
}

const root = join(import.meta.dirname, '..', '..');

/** Of the libraries and apps that run in production, with the tools of their operators. */
export async function readSourceStatements(): Promise<SourceStatements> {
  const constants = new Map<string, Statement>();
  const makers = new Map<string, (...values: never[]) => Statement>();
  const unnamed = new Map<string, LoadTopLevel>();
  const retained = new Map<string, string>();
  const misplaced: string[] = [];
  for (const path of sourceFiles()) {
    const text = readFileSync(join(root, path), 'utf8');
    for (const [, table, column] of text.matchAll(/\{ table: '(\w+)', column: '(\w+)'/g))
      retained.set(table as string, column as string);
    const found = search(path, text);
    misplaced.push(...found.misplaced);
    for (const name of found.unnamed) unnamed.set(name, () => topLevelOf(path, text, found.topLevel));
    if (found.constants.length + found.makers.length === 0) continue;
    const values = await topLevelOf(path, text, found.topLevel);
    for (const name of found.constants) {
      const statement = values[name] as Statement;
      if (constants.has(statement.name)) misplaced.push(`${path} ${name}: another statement has the same name`);
      constants.set(statement.name, statement);
    }
    for (const name of found.makers) makers.set(name, values[name] as never);
  }
  return { constants, makers, unnamed, retained, misplaced };
}

/** The classes that make the tables of all services. */
export async function readMigrations(): Promise<(new () => MigrationInterface)[]> {
  const classes: (new () => MigrationInterface)[] = [];
  for (const path of sourceFiles(/\.migration\.ts$/)) {
    classes.push(...(Object.values((await import(join(root, path))) as object) as typeof classes));
  }
  return classes;
}

/** What TypeORM builds statements of. */
export async function readEntities(): Promise<(new () => object)[]> {
  const classes: (new () => object)[] = [];
  for (const path of sourceFiles(/\.row\.ts$/)) {
    const values = Object.values((await import(join(root, path))) as object) as unknown[];
    classes.push(...values.filter((value): value is new () => object => typeof value === 'function'));
  }
  return classes;
}

function sourceFiles(wanted = /(?<!\.(spec|migration))\.ts$/): string[] {
  const packages = [
    ...readdirSync(join(root, 'libs')).map((name) => `libs/${name}`),
    ...readdirSync(join(root, 'apps')).map((name) => `apps/${name}`),
    'cli',
  ].filter((name) => name !== 'libs/testing' && name !== 'libs/local-backends');
  return packages.flatMap((name) =>
    readdirSync(join(root, name, 'src'), { recursive: true })
      .map((file) => `${name}/src/${String(file)}`)
      .filter((file) => wanted.test(file)),
  );
}

interface Found {
  readonly topLevel: string[];
  readonly constants: string[];
  readonly makers: string[];
  readonly unnamed: string[];
  readonly misplaced: string[];
}

/** What neither reads nor writes rows. */
const noRows = /^(SET|LOCK|LISTEN|ANALYZE|CREATE|DROP|ALTER|FETCH)\b/;
/** What makes SQL out of something else. */
const builders = new Set(['createQueryBuilder', 'find', 'findBy', 'findOne', 'findOneBy', 'count', 'countBy']);

function search(path: string, text: string): Found {
  const found: Found = { topLevel: [], constants: [], makers: [], unnamed: [], misplaced: [] };
  if (!/\bStatement\b|\.query[<(]|Repository<|\btext: /.test(text)) return found;
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const at = (node: ts.Node) => `${path}:${file.getLineAndCharacterOfPosition(node.getStart()).line + 1}`;
  const visit = (node: ts.Node): void => {
    if (isStatement(node)) {
      const place = declarationOf(node);
      if (!place) found.misplaced.push(`${at(node)}: make it a constant at the top of its module, or a function there`);
      else (place.initializer === node ? found.constants : found.makers).push(place.name);
    } else if (ts.isCallExpression(node) && sendsUnnamed(node, file)) {
      const name = functionOf(node);
      if (!name) found.misplaced.push(`${at(node)}: give the statement a name`);
      else if (!found.unnamed.includes(name)) found.unnamed.push(name);
    }
    ts.forEachChild(node, visit);
  };
  for (const statement of file.statements) {
    if (ts.isVariableStatement(statement)) {
      for (const { name } of statement.declarationList.declarations)
        if (ts.isIdentifier(name)) found.topLevel.push(name.text);
    } else if (ts.isFunctionDeclaration(statement) || ts.isClassDeclaration(statement)) {
      if (statement.name) found.topLevel.push(statement.name.text);
    }
    visit(statement);
  }
  return found;
}

/** `{ name: …, text: … }` */
function isStatement(node: ts.Node): boolean {
  if (!ts.isObjectLiteralExpression(node)) return false;
  const names = node.properties.map((property) => property.name?.getText());
  return names.includes('name') && names.includes('text');
}

/** The declaration at the top of the module that it belongs to. */
function declarationOf(
  node: ts.Node,
): { readonly name: string; readonly initializer?: ts.Node | undefined } | undefined {
  for (let up = node.parent; up; up = up.parent) {
    if (ts.isVariableDeclaration(up) && ts.isIdentifier(up.name) && ts.isSourceFile(up.parent.parent.parent)) {
      return { name: up.name.text, initializer: up.initializer };
    }
    if (ts.isFunctionDeclaration(up) && up.name && ts.isSourceFile(up.parent)) return { name: up.name.text };
  }
  return undefined;
}

function functionOf(node: ts.Node): string | undefined {
  for (let up = node.parent; up; up = up.parent) {
    if (ts.isMethodDeclaration(up) && ts.isClassDeclaration(up.parent)) {
      return `${up.parent.name?.text ?? ''}.${up.name.getText()}`;
    }
  }
  return declarationOf(node)?.name;
}

/** Where a transaction or a pool takes a named statement, the types see to it that it is one. */
function sendsUnnamed({ expression, arguments: [first] }: ts.CallExpression, file: ts.SourceFile): boolean {
  if (!ts.isPropertyAccessExpression(expression)) return false;
  const receiver = expression.expression.getText(file);
  if (builders.has(expression.name.text))
    return /(^|\.)(repository|[a-z]+s)$/.test(receiver) && / Repository</.test(file.text) && /this\./.test(receiver);
  if (expression.name.text !== 'query' || !/(manager|dataSource|runner)$/.test(receiver)) return false;
  const text =
    first && (ts.isStringLiteralLike(first) ? first.text : ts.isTemplateExpression(first) ? first.head.text : '');
  return !noRows.test(text?.trim() ?? '');
}

/** Runs the module as it is, with all that stands at its top exported; what it imports is what the services import. */
async function topLevelOf(path: string, text: string, names: readonly string[]): Promise<Record<string, unknown>> {
  const exported = `${text}\nexport { ${names.map((name) => `${name} as $${name}`).join()} };`;
  const { code } = transformSync(exported, {
    ...{ filename: join(root, path), configFile: join(root, '.swcrc'), sourceMaps: false },
    module: { type: 'commonjs', strictMode: true, noInterop: true },
  });
  const modules = new Map<string, object>();
  for (const [, specifier = ''] of code.matchAll(/\brequire\("([^"]+)"\)/g)) {
    modules.set(specifier, await imported(path, specifier));
  }
  const values: Record<string, unknown> = {};
  const run = new AsyncFunction('exports', 'require', code);
  await run(values, (specifier: string) => modules.get(specifier));
  return Object.fromEntries(names.map((name) => [name, values[`$${name}`]]));
}

/** Modules may wait at their top. */
const AsyncFunction = (async () => Promise.resolve()).constructor as new (
  ...source: string[]
) => (exports: object, require: (specifier: string) => unknown) => Promise<void>;

async function imported(from: string, specifier: string): Promise<object> {
  const file = specifier.startsWith('.')
    ? join(root, dirname(from), specifier.replace(/\.js$/, '.ts'))
    : createRequire(join(root, from)).resolve(specifier);
  const found = (await import(file)) as Record<string, unknown>;
  // Of CommonJS modules Jest does not know all names.
  return { ...Object(found['default']), ...found };
}
