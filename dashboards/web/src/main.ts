import { mount } from 'svelte';
import './look.css';
import App from './App.svelte';
import { live } from './live/known.svelte';

live.start();
mount(App, { target: document.body });
