export { layerFolder, layerNames, layersFolder } from './layout.ts';
export { type LayerBlob, type LayerSink, type UnpackedLayer, Unpacker, type UnpackerOptions } from './unpacker.ts';
