# One file for every service: docker build --build-arg SERVICE=user-service .
# The image holds that service, the libs that it uses, and their production dependencies.

FROM node:24.21.0-bookworm-slim AS base
WORKDIR /app

# Only what decides the dependencies: copied from here, it keeps the installs below cached while the code changes.
FROM base AS manifests
COPY . .
RUN find . -type f ! -name package.json ! -name package-lock.json ! -name .npmrc -delete \
    && find . -type d -empty -delete

FROM base AS production
COPY --from=manifests /app ./
ARG SERVICE
RUN test -n "$SERVICE" && test -d "apps/$SERVICE" || \
    { echo "No service \"$SERVICE\": build with --build-arg SERVICE=$(ls apps | paste -sd '|')" >&2; exit 1; }
# Native parts, such as those of Kafka's codecs, are optional dependencies and stay. What is both an optional peer and a tool of
# development, such as TypeScript, npm would install as well.
RUN npm ci --omit=dev --ignore-scripts --workspace "apps/$SERVICE" --include-workspace-root=false \
    && rm -rf $(node --print "Object.entries(require('./package-lock.json').packages) \
        .filter(([, { devOptional }]) => devOptional).map(([path]) => path).join(' ')")
# npm has linked exactly the workspace packages that the service uses; the others have no place in the image.
RUN realpath --relative-to=. node_modules/@starter/* > /packages \
    && rm -r $(ls -d libs/* apps/* demo bench chaos cli | grep -vxFf /packages) package-lock.json .npmrc

FROM base AS build
COPY --from=manifests /app ./
RUN npm ci --ignore-scripts
COPY . .
COPY --from=production /packages /
RUN npm run build $(sed 's,^,--workspace=,' /packages) \
    && mkdir /built && cp -r --parents $(sed 's,$,/dist,' /packages) /built

FROM base
ARG SERVICE
ENV NODE_ENV=production
WORKDIR /app/apps/$SERVICE
# Two layers: a change of code leaves the large one, the dependencies, as it was.
COPY --from=production /app /app
COPY --from=build /built /app
USER node
STOPSIGNAL SIGTERM
CMD ["node", "--enable-source-maps", "dist/main.js"]
